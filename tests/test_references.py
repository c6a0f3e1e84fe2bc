"""A reference names a folder, a file, something in a package or a hub id; all else is an error that helps."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from consumer.errors import SettingsError
from consumer.references import resolve

PACKAGE = "whisper_from_parts"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the module path: what is put there is installed."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def install(site: Path, package: str, files: dict[str, str], version: str = "1.0") -> None:
    for name, text in ({"__init__.py": ""} | files).items():
        (site / package / name).parent.mkdir(parents=True, exist_ok=True)
        (site / package / name).write_text(text)
    info = site / f"{package}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    (info / "top_level.txt").write_text(package)


def test_a_folder_or_file_is_itself(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    assert resolve(str(tmp_path), tmp_path / "cache") == tmp_path
    assert resolve(str(tmp_path / "model.gguf"), tmp_path / "cache") == tmp_path / "model.gguf"


def test_a_path_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "whisper").mkdir()
    assert resolve("~/whisper", tmp_path) == tmp_path / "whisper"


@pytest.mark.parametrize("reference", ["Qwen/Qwen3-0.6B", "Systran/faster-whisper-tiny.en"])
def test_owner_and_name_are_a_hub_id(tmp_path: Path, reference: str) -> None:
    assert resolve(reference, tmp_path) is None


def test_a_folder_that_is_there_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "whisper").mkdir(parents=True)
    assert resolve("models/whisper", tmp_path) == Path("models/whisper")


@pytest.mark.parametrize("reference", ["/no/such/model", "./whisper", "../whisper/tiny", "~/no/such", "whisper", ""])
def test_what_is_nowhere_is_an_error_that_says_where_it_was_looked_for(tmp_path: Path, reference: str) -> None:
    with pytest.raises(SettingsError, match="no such file or folder"):
        resolve(str(tmp_path / "gone") if reference == "" else reference, tmp_path)


def test_a_folder_in_a_package_is_found(site: Path, tmp_path: Path) -> None:
    install(site, PACKAGE, {"model/config.json": "{}"})
    assert resolve(f"pkg://{PACKAGE}/model", tmp_path) == site / PACKAGE / "model"
    assert resolve(f"pkg://{PACKAGE}/model/config.json", tmp_path) == site / PACKAGE / "model" / "config.json"


def test_a_package_is_not_run_to_find_a_file_in_it(site: Path, tmp_path: Path) -> None:
    install(site, PACKAGE, {"__init__.py": "raise RuntimeError('run')", "model/config.json": "{}"})
    assert resolve(f"pkg://{PACKAGE}/model", tmp_path) == site / PACKAGE / "model"


@pytest.mark.parametrize("reference", ["pkg://no_such_package/model", "pkg://no_such_package", "pkg://", "pkg://a.b/c"])
def test_a_package_that_is_not_installed_is_an_error_that_says_how_to_install_it(
    tmp_path: Path, reference: str
) -> None:
    with pytest.raises(SettingsError, match=r"is installed here; install .*pip install"):
        resolve(reference, tmp_path)


def test_a_wrong_path_in_a_package_is_an_error_that_lists_what_is_there(site: Path, tmp_path: Path) -> None:
    install(site, PACKAGE, {"model/config.json": "{}", "other.gguf": ""})
    with pytest.raises(SettingsError, match=r"has no 'modle'; it holds: __init__\.py, model, other\.gguf"):
        resolve(f"pkg://{PACKAGE}/modle", tmp_path)


def test_a_path_may_not_leave_the_package(site: Path, tmp_path: Path) -> None:
    install(site, PACKAGE, {})
    (site / "secret").touch()
    with pytest.raises(SettingsError, match="has no"):
        resolve(f"pkg://{PACKAGE}/../secret", tmp_path)


ASSEMBLE = """
from pathlib import Path

def assemble(path):
    with Path(path).open("a") as file:
        file.write("weights")
    return path
"""


def test_a_package_that_joins_its_parts_does_so_once(site: Path, tmp_path: Path) -> None:
    install(site, "model_that_assembles", {"__init__.py": ASSEMBLE}, version="2.5")
    first = resolve("pkg://model_that_assembles", tmp_path)
    assert first is not None
    assert first == tmp_path / "assembled" / "model_that_assembles-2.5.gguf"
    assert first.read_text() == "weights"
    written_ns = first.stat().st_mtime_ns
    assert resolve("pkg://model_that_assembles", tmp_path) == first
    assert (first.read_text(), first.stat().st_mtime_ns) == ("weights", written_ns)


ASSEMBLE_ONCE_THE_DISK_HAS_ROOM = """
from pathlib import Path

def assemble(path):
    with Path(path).open("x") as file:
        file.write("half")
    if not (Path(path).parent / "room").exists():
        raise OSError("disk full")
    Path(path).write_text("whole")
"""


def test_a_join_that_failed_leaves_nothing_that_looks_whole(site: Path, tmp_path: Path) -> None:
    install(site, "model_that_fails", {"__init__.py": ASSEMBLE_ONCE_THE_DISK_HAS_ROOM})
    with pytest.raises(OSError, match="disk full"):
        resolve("pkg://model_that_fails", tmp_path)
    (tmp_path / "assembled" / "room").touch()
    path = resolve("pkg://model_that_fails", tmp_path)
    assert path is not None
    assert path.read_text() == "whole"


def test_a_package_that_joins_nothing_needs_a_path(site: Path, tmp_path: Path) -> None:
    install(site, "model_without_assemble", {})
    with pytest.raises(SettingsError, match="name a file in the package"):
        resolve("pkg://model_without_assemble", tmp_path)


def test_a_folder_in_parts_over_packages_is_joined(site: Path, tmp_path: Path) -> None:
    install(site, "part_one", {"data/config.json": "{}", "data/model.bin.part1": "first "})
    install(site, "part_two", {"data/model.bin.part2": "second"})
    folder = resolve("pkg://part_one+part_two/data", tmp_path)
    assert folder is not None
    assert {file.name: file.read_text() for file in folder.iterdir()} == {
        "config.json": "{}",
        "model.bin": "first second",
    }
    assert resolve("pkg://part_one+part_two/data", tmp_path) == folder


def test_the_parts_are_joined_by_number_whatever_the_order_of_the_packages(site: Path, tmp_path: Path) -> None:
    install(site, "part_a", {"data/model.bin.part1": "first "})
    install(site, "part_b", {"data/model.bin.part2": "second"})
    folder = resolve("pkg://part_b+part_a/data", tmp_path)
    assert folder is not None
    assert (folder / "model.bin").read_text() == "first second"


def test_ten_parts_are_joined_by_number(site: Path, tmp_path: Path) -> None:
    parts = {f"data/model.bin.part{number}": f"{number} " for number in range(1, 12)}
    install(site, "eleven_parts", {name: text for name, text in parts.items() if not name.endswith("part11")})
    install(site, "eleventh_part", {"data/model.bin.part11": parts["data/model.bin.part11"]})
    folder = resolve("pkg://eleven_parts+eleventh_part/data", tmp_path)
    assert folder is not None
    assert (folder / "model.bin").read_text() == "1 2 3 4 5 6 7 8 9 10 11 "


def test_a_whole_file_that_several_packages_bring_is_taken_once(site: Path, tmp_path: Path) -> None:
    install(site, "twin_one", {"data/config.json": "{}"})
    install(site, "twin_two", {"data/config.json": "{}"})
    folder = resolve("pkg://twin_one+twin_two/data", tmp_path)
    assert folder is not None
    assert (folder / "config.json").read_text() == "{}"


def test_a_folder_that_a_killed_process_left_half_joined_is_joined_anew(site: Path, tmp_path: Path) -> None:
    install(site, "part_x", {"data/model.bin.part1": "first "})
    install(site, "part_y", {"data/model.bin.part2": "second"})
    half = tmp_path / "assembled" / "part_x-1.0.part"
    half.mkdir(parents=True)
    (half / "model.bin").write_text("first ")
    folder = resolve("pkg://part_x+part_y/data", tmp_path)
    assert folder is not None
    assert (folder / "model.bin").read_text() == "first second"


def test_threads_that_join_at_once_get_the_same_whole_folder(site: Path, tmp_path: Path) -> None:
    install(site, "part_p", {"data/model.bin.part1": "first " * 100_000})
    install(site, "part_q", {"data/model.bin.part2": "second"})
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: resolve("pkg://part_p+part_q/data", tmp_path), range(8)))
    assert len(set(folders)) == 1
    folder = folders[0]
    assert folder is not None
    assert (folder / "model.bin").read_text() == "first " * 100_000 + "second"
