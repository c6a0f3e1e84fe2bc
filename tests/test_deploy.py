"""What deploy/ names, checked against the project: no Docker is needed, and nothing is taken on trust."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from consumer import metrics
from consumer.health import HealthServer
from consumer.settings import HttpSettings, KafkaSettings, Settings, load_settings
from tests.deployment import (
    COMPOSE_TEXT,
    DEPLOY,
    IMAGE,
    LAST_STAGE,
    OURS,
    PROJECT,
    PROMETHEUS,
    ROOT,
    SERVICES,
    found,
    image_environment,
    instructions,
    is_ignored,
    mounts,
    tagstream_commands,
    tagstream_settings,
)


@contextmanager
def health_server(*, alive: bool) -> Iterator[HealthServer]:
    server = HealthServer(HttpSettings(host="127.0.0.1", port=0), lambda: alive, lambda: False)
    try:
        yield server
    finally:
        server.close()


def read(url: str) -> str:
    with urlopen(url, timeout=10) as answer:
        return str(answer.read(), "utf-8")


def sources() -> list[str]:
    """What the build takes from the repository."""
    return [source for i in found("COPY") if "from" not in i.flags for source in i.words[:-1]]


# --- the parsers ---


def test_a_dockerfile_is_read_as_docker_reads_it() -> None:
    text = "# a\nFROM x AS y\n  # b\nRUN --mount=type=cache one \\\n# c\n    two\n\nFROM y\nUSER 5\n"
    assert instructions(text) == [
        (0, "FROM", "x AS y"),
        (0, "RUN", "--mount=type=cache one     two"),
        (1, "FROM", "y"),
        (1, "USER", "5"),
    ]
    assert instructions(text)[1].words == ["one", "two"]
    assert instructions(text)[1].flags == {"mount": "type=cache"}


@pytest.mark.parametrize(
    ("path", "patterns", "ignored"),
    [
        ("a/b.py", ["*"], True),
        ("a/b.py", ["*", "!a"], False),
        ("a/c/b.py", ["*", "!a", "**/c"], True),
        ("c", ["**/c"], True),
        ("a/b.py", ["*.py"], False),
        ("a/b.py", ["**/*.py"], True),
        ("ab", ["a?"], True),
        ("a/b.py", ["!a", "*"], True),
    ],
)
def test_dockerignore_is_read_as_docker_reads_it(path: str, patterns: list[str], ignored: bool) -> None:
    assert is_ignored(path, patterns) is ignored


# --- the image ---


def test_every_copied_path_exists_and_reaches_the_build() -> None:
    patterns = [p for p in (ROOT / ".dockerignore").read_text().splitlines() if p and not p.startswith("#")]
    for source in sources():
        path = ROOT / source
        assert path.exists(), source
        for file in [path, *path.rglob("*")]:
            if "__pycache__" not in file.parts:
                assert not is_ignored(str(file.relative_to(ROOT)), patterns), file


def test_all_that_the_package_is_made_of_is_copied() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert set(sources()) == {"pyproject.toml", PROJECT["readme"], *packages}


def test_stages_copy_from_stages_that_make_what_they_copy() -> None:
    names = {i.words[-1]: i.stage for i in found("FROM") if "AS" in i.words}
    for copy in (i for i in found("COPY") if "from" in i.flags):
        source = copy.words[0]
        made = [i for i in IMAGE if i.stage == names[copy.flags["from"]] and i.text.endswith(source)]
        assert made, source
        assert copy.words == [source, source]  # a virtual environment cannot be moved


def test_the_extras_and_requirements_it_installs_are_those_of_the_project() -> None:
    required = {Requirement(text) for text in PROJECT["dependencies"]}
    installs = [i.words[2:] for i in found("RUN") if i.words[:2] == ["pip", "install"]]
    (torch_index,) = [i.text.partition("=")[0] for i in found("ARG")]
    assert [words[:-1] for words in installs] == [[f"${torch_index}"], []]
    (torch,), (project,) = [words[-1:] for words in installs]
    assert Requirement(torch) in required
    extras = re.findall(r"^\.\[([\w,-]+)\]$", project)[0].split(",")
    assert set(extras) <= PROJECT["optional-dependencies"].keys()


def test_the_python_of_every_stage_is_one_that_the_project_supports() -> None:
    images = {i.words[0] for i in found("FROM")}
    assert len(images) == 1
    (version,) = re.findall(r"^python:(3\.\d+)-slim$", images.pop())
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)
    assert image_environment(LAST_STAGE)["LD_LIBRARY_PATH"].split("/")[4] == f"python{version}"


def test_the_virtual_environment_is_first_on_the_path() -> None:
    (venv,) = [i.words[-1] for i in found("RUN") if "venv" in i.words]
    for stage in range(LAST_STAGE + 1):
        assert image_environment(stage)["PATH"].split(":")[0] == f"{venv}/bin"


def test_the_last_stage_builds_nothing_and_does_not_run_as_root() -> None:
    assert LAST_STAGE > 0
    assert [i.words[0] for i in found("RUN", LAST_STAGE)] == ["useradd"]
    user = found("USER", LAST_STAGE)[-1].text
    assert found("RUN", LAST_STAGE)[0].words[1] == user.split(":")[0] != "0"


def test_the_models_are_converted_where_the_container_looks_for_them() -> None:
    environments = [image_environment(stage) for stage in range(LAST_STAGE + 1)]
    caches = {load_settings(environment).settings.cache_path for environment in environments}
    assert len(caches) == 1
    (copy,) = [i for i in found("COPY", LAST_STAGE) if i.words[-1] == str(min(caches))]
    assert copy.flags["chown"] == found("USER", LAST_STAGE)[-1].text
    assert str(min(caches)) in {target for _, target, _ in mounts(SERVICES["tagstream"])}


@pytest.mark.parametrize("alive", [True, False])
def test_the_health_check_tells_the_living_from_the_dead(alive: bool) -> None:
    (check,) = found("HEALTHCHECK")
    command = check.text.partition("CMD ")[2].replace("python", sys.executable, 1)
    with health_server(alive=alive) as server:
        environment = os.environ | {"TAGSTREAM_HTTP__PORT": str(server.port)}
        ended = subprocess.run(["/bin/sh", "-c", command], env=environment, check=False, timeout=60)
    assert ended.returncode == (0 if alive else 1)


def test_the_container_is_stopped_by_the_signal_that_drains() -> None:
    assert [i.text for i in found("STOPSIGNAL")] == ["SIGTERM"]


# --- names that the image, compose.yaml and prometheus.yml share with the program ---


@pytest.mark.parametrize("words", tagstream_commands(), ids=" ".join)
def test_every_command_and_flag_exists(words: list[str]) -> None:
    names = [word for word in words if re.fullmatch("[a-z]+", word)]
    command = [sys.executable, "-m", "consumer", *names, "--help"]
    helped = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert helped.returncode == 0, helped.stderr
    for flag in (word for word in words if word.startswith("-")):
        assert re.search(rf"(?<!\S){flag}\b", helped.stdout), flag


@pytest.mark.parametrize("service", OURS)
def test_every_variable_is_a_setting_and_the_topics_are_the_defaults(service: str) -> None:
    kafka = tagstream_settings(service).kafka
    assert kafka == KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
    assert kafka.bootstrap_servers == tagstream_settings("tagstream").kafka.bootstrap_servers


def test_one_port_serves_the_metrics_everywhere() -> None:
    port = Settings().http.port
    assert tagstream_settings("tagstream").http.port == port
    assert [i.text for i in found("EXPOSE")] == [str(port)]
    assert SERVICES["tagstream"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    (scrape,) = PROMETHEUS["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": [f"tagstream:{port}"]}]
    assert f"localhost:{port}/metrics" in COMPOSE_TEXT


def test_prometheus_scrapes_where_the_metrics_are() -> None:
    path = PROMETHEUS["scrape_configs"][0].get("metrics_path", "/metrics")
    with health_server(alive=True) as server:
        scraped = read(f"http://127.0.0.1:{server.port}{path}")
    assert f"{metrics.records_received._name}_total" in scraped


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on PATH")
def test_promtool_accepts_the_prometheus_configuration() -> None:
    command = ["promtool", "check", "config", str(DEPLOY / "prometheus.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
