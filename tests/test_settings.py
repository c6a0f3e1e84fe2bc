"""Settings come from defaults, a file and the environment, in this order; wrong ones are refused."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from consumer.errors import SettingsError
from consumer.settings import Settings, described, environment_name, load_settings

NAMES = [name for name, _, _, _ in described(load_settings({}))]
client_keys = st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){0,3}", fullmatch=True)
values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


def config_of(folder: Path, text: str) -> Path:
    path = folder / "tagstream.toml"
    path.write_text(text)
    return path


def test_without_file_and_environment_everything_is_a_default() -> None:
    assert load_settings({}) == (Settings(), {})


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    config = config_of(tmp_path, 'device = "cpu"\n[kafka]\ngroup_id = "file"\n[http]\nport = 1000\n')
    loaded = load_settings({"TAGSTREAM_KAFKA__GROUP_ID": "environment"}, config)
    assert loaded.settings.kafka.group_id == "environment"
    assert loaded.settings.http.port == 1000
    assert loaded.settings.device == "cpu"
    assert loaded.settings.http.host == Settings().http.host
    assert loaded.origins == {
        "device": str(config),
        "http.port": str(config),
        "kafka.group_id": "TAGSTREAM_KAFKA__GROUP_ID",
    }


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("TAGSTREAM_KAFKA__GROUPID", "kafka.group_id (TAGSTREAM_KAFKA__GROUP_ID)"),
        ("TAGSTREAM_KAFKA_GROUP_ID", "kafka.group_id (TAGSTREAM_KAFKA__GROUP_ID)"),
        ("TAGSTREAM_MAX_VIDEOS_INFLIGHT", "max_videos_in_flight (TAGSTREAM_MAX_VIDEOS_IN_FLIGHT)"),
        ("TAGSTREAM_HTTP__PROT", "http.port (TAGSTREAM_HTTP__PORT)"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_setting(variable: str, nearest: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({variable: "1"})
    assert str(refused.value).startswith(f"{variable}: there is no setting")
    assert f"did you mean {nearest}?" in str(refused.value)


def test_an_unknown_name_in_the_file_is_refused_with_the_file(tmp_path: Path) -> None:
    config = config_of(tmp_path, "[speech]\nmodell = 'x'\n")
    with pytest.raises(SettingsError, match=r"did you mean speech\.model") as refused:
        load_settings({}, config)
    assert str(refused.value).startswith(f"{config}: there is no setting 'speech.modell'")


def test_a_name_like_no_other_gets_no_advice() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({"TAGSTREAM_QQQQQQQQ": "1"})
    assert "did you mean" not in str(refused.value)


def test_variables_of_others_and_of_the_tests_are_left_alone() -> None:
    environment = {"PATH": "/bin", "KAFKA__GROUP_ID": "x", "TAGSTREAM_TEST_BOOTSTRAP": "localhost:1"}
    assert load_settings(environment) == (Settings(), {})


def test_librdkafka_settings_come_from_the_environment_and_the_file(tmp_path: Path) -> None:
    config = config_of(tmp_path, '[kafka.client]\n"sasl.username" = "me"\nssl.ca.location = "/ca"\n')
    loaded = load_settings({"TAGSTREAM_KAFKA__CLIENT__SECURITY_PROTOCOL": "SASL_SSL"}, config)
    assert loaded.settings.kafka.client == {
        "sasl.username": "me",
        "ssl.ca.location": "/ca",
        "security.protocol": "SASL_SSL",
    }
    assert loaded.origins["kafka.client.security.protocol"] == "TAGSTREAM_KAFKA__CLIENT__SECURITY_PROTOCOL"


@given(st.dictionaries(client_keys, values, max_size=4))
def test_every_librdkafka_setting_can_be_set_by_its_variable(client: dict[str, str]) -> None:
    environment = {environment_name(f"kafka.client.{key}"): value for key, value in client.items()}
    assert load_settings(environment).settings.kafka.client == client


@pytest.mark.parametrize(
    "key",
    [
        "sasl.password",
        "ssl.key.password",
        "sasl.oauthbearer.client.secret",
        "ssl.key.pem",
        "sasl.jaas.config",
    ],
)
def test_secrets_are_masked(key: str) -> None:
    loaded = load_settings({environment_name(f"kafka.client.{key}"): "hunter2"})
    shown = {name: value for name, value, _, _ in described(loaded)}
    assert shown[f"kafka.client.{key}"] == "********"
    assert loaded.settings.kafka.client == {key: "hunter2"}


def test_what_is_no_secret_is_shown_with_its_origin() -> None:
    loaded = load_settings({"TAGSTREAM_KAFKA__CLIENT__SASL_USERNAME": "me", "TAGSTREAM_DEVICE": "cpu"})
    shown = {name: (value, origin) for name, value, origin, _ in described(loaded)}
    assert shown["kafka.client.sasl.username"] == ("me", "TAGSTREAM_KAFKA__CLIENT__SASL_USERNAME")
    assert shown["device"] == ("cpu", "TAGSTREAM_DEVICE")
    assert shown["http.port"] == ("9464", "default")


def test_a_list_is_separated_by_commas() -> None:
    roots = load_settings({"TAGSTREAM_MEDIA__ROOTS": " /a, /b c,,"}).settings.media.roots
    assert roots == ["/a", "/b c"]
    assert load_settings({"TAGSTREAM_MEDIA__ROOTS": ""}).settings.media.roots == []


def test_a_list_in_the_file_is_a_list(tmp_path: Path) -> None:
    config = config_of(tmp_path, '[media]\nroots = ["/a,b"]\n')
    assert load_settings({}, config).settings.media.roots == ["/a,b"]


def test_an_empty_variable_unsets_what_can_be_unset(tmp_path: Path) -> None:
    config = config_of(tmp_path, '[speech]\nlanguage = "de"\n[llm]\nmax_batch_tokens = 5\n')
    environment = {"TAGSTREAM_SPEECH__LANGUAGE": "", "TAGSTREAM_LLM__MAX_BATCH_TOKENS": ""}
    settings = load_settings(environment, config).settings
    assert settings.speech.language is None
    assert settings.llm.max_batch_tokens is None


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("TAGSTREAM_HTTP__PORT", "high", "http.port"),
        ("TAGSTREAM_HTTP__PORT", "70000", "http.port"),
        ("TAGSTREAM_HTTP__PORT", "", "http.port"),
        ("TAGSTREAM_DEVICE", "tpu", "device"),
        ("TAGSTREAM_DRAIN_S", "-1", "drain_s"),
        ("TAGSTREAM_KAFKA__DELIVERY", "at_most_once", "kafka.delivery"),
    ],
)
def test_a_bad_value_is_refused_with_where_it_stands(variable: str, value: str, name: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({variable: value})
    assert str(refused.value).startswith(f"{variable}: {name} = {value!r}: ")


def test_a_bad_value_in_the_file_is_refused_with_the_file(tmp_path: Path) -> None:
    config = config_of(tmp_path, "[llm]\nmax_batch = 0\n")
    with pytest.raises(SettingsError) as refused:
        load_settings({}, config)
    assert str(refused.value).startswith(f"{config}: llm.max_batch = 0: ")


@pytest.mark.parametrize("content", [b"device = ", b"[kafka\n", b"device = 'cpu'\ndevice = 'cpu'\n", b"\xff\xfe"])
def test_a_broken_file_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    config = tmp_path / "broken.toml"
    config.write_bytes(content)
    with pytest.raises(SettingsError, match=r"cannot read the settings in .*broken\.toml: "):
        load_settings({}, config)


@pytest.mark.parametrize("name", ["missing.toml", ""])
def test_a_file_that_cannot_be_opened_is_refused_with_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="cannot read the settings in "):
        load_settings({}, tmp_path / name)


def test_every_setting_is_described_once() -> None:
    rows = list(described(load_settings({})))
    assert len(set(NAMES)) == len(rows)
    for name, _, origin, description in rows:
        assert description.endswith("."), name
        assert origin == "default"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_can_be_set(name: str) -> None:
    shown = {name: value for name, value, _, _ in described(load_settings({}))}
    loaded = load_settings({environment_name(name): shown[name]})
    assert loaded == (Settings(), {name: environment_name(name)})


@given(st.dictionaries(st.sampled_from([environment_name(name) for name in NAMES]), values, max_size=3))
def test_any_value_makes_settings_or_a_settings_error(environment: dict[str, str]) -> None:
    with suppress(SettingsError):
        assert len(load_settings(environment).origins) == len(environment)


def test_settings_do_not_change_once_loaded() -> None:
    with pytest.raises(ValidationError):
        Settings().device = "cpu"  # type: ignore[misc]


def test_converted_models_are_kept_in_the_users_cache_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert Settings().cache_path == Path("/home/me/.cache/tagstream")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert Settings().cache_path == Path("/caches/tagstream")
    assert load_settings({"TAGSTREAM_CACHE_DIR": "/own"}).settings.cache_path == Path("/own")


def test_a_secret_is_not_shown_by_the_error_about_it(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[kafka.client]\n"sasl.password" = 4711\n')
    with pytest.raises(SettingsError) as caught:
        load_settings({}, file)
    assert "4711" not in str(caught.value)
    assert "kafka.client.sasl.password" in str(caught.value)


def test_client_settings_are_set_one_by_one() -> None:
    with pytest.raises(SettingsError, match="name a librdkafka setting"):
        load_settings({"TAGSTREAM_KAFKA__CLIENT": "x", "TAGSTREAM_KAFKA__CLIENT__CLIENT_ID": "y"})
