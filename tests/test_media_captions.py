import logging
import shutil
from pathlib import Path

import pytest

from consumer.media.captions import Captions, as_utf8, captions_beside, open_captions
from consumer.media.decode import open_media
from consumer.media.fetch import open_source
from consumer.settings import MediaSettings
from schemas import Caption
from tests.media_clips import CLIPS
from tests.media_server import serving

SETTINGS = MediaSettings(decode_timeout_s=30)
SRT = "1\n00:00:00,500 --> 00:00:02,000\n{}\n\n2\n00:00:02,500 --> 00:00:04,000\nSecond line.\n"
VTT = "WEBVTT\n\n00:00.500 --> 00:02.000 align:start\n<v Ann>{}\n\n00:02.500 --> 00:04.000\nSecond line.\n"


def best(
    uri: str | Path,
    named: tuple[Caption, ...] = (),
    language: str | None = None,
    settings: MediaSettings = SETTINGS,
) -> tuple[str, str | None, str] | None:
    """Basis, language and first text of the captions that are chosen."""
    with open_source(str(uri), settings) as source, open_media(source, settings, language) as media:
        captions = open_captions(str(uri), media, named, settings, language)
        return None if captions is None else summary(captions)


def summary(captions: Captions) -> tuple[str, str | None, str]:
    spoken = list(captions.segments)
    assert len(spoken) >= 2
    return captions.basis, captions.language, spoken[0].text


def inline(text: str, language: str | None = None, kind: str | None = None) -> Caption:
    return Caption.model_validate({"inline": SRT.format(text), "format": "srt", "language": language, "kind": kind})


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    return Path(shutil.copy(CLIPS / "talk.mp4", tmp_path / "talk [1].mp4"))


def test_media_without_captions_has_none(talk: Path) -> None:
    assert best(talk) is None


@pytest.mark.parametrize(("suffix", "form"), [("srt", SRT), ("vtt", VTT)])
def test_captions_beside_the_file_are_read(talk: Path, suffix: str, form: str) -> None:
    talk.with_suffix(f".en.{suffix}").write_text(form.format("First &amp; foremost."))
    assert best(talk) == ("captions.sidecar", "en", "First & foremost.")
    assert best(talk.as_uri()) == ("captions.sidecar", "en", "First & foremost.")


def test_only_captions_of_this_file_lie_beside_it(talk: Path) -> None:
    for name in (
        "talk [1].srt",
        "talk [1].en-GB.vtt",
        "talk [1].mp4.srt",
        "talk [1].x.srt",
        "talk 1.srt",
        "talk.srt",
    ):
        talk.with_name(name).touch()
    found = [(Path(path).name, language) for path, language in captions_beside(str(talk))]
    assert found == [("talk [1].en-GB.vtt", "en-GB"), ("talk [1].srt", None)]
    assert captions_beside("https://example.org/talk.mp4") == []


def test_captions_that_the_upload_names_come_before_those_beside_and_inside(tmp_path: Path) -> None:
    talk = Path(shutil.copy(CLIPS / "subtitled.mp4", tmp_path))
    assert best(talk) == ("captions.embedded", "en", "Good evening.")
    talk.with_suffix(".srt").write_text(SRT.format("Beside."))
    assert best(talk) == ("captions.sidecar", None, "Beside.")
    assert best(talk, (inline("Named."),)) == ("captions.sidecar", None, "Named.")


def test_the_wanted_language_comes_first_then_people_before_machines(talk: Path) -> None:
    named = (
        inline("Auto.", "en", "auto"),
        inline("Deutsch.", "de", "manual"),
        inline("English.", "en", "manual"),
    )
    assert best(talk, named) == ("captions.sidecar", "de", "Deutsch.")
    assert best(talk, named, "en") == ("captions.sidecar", "en", "English.")
    assert best(talk, named[:2], "en") == ("captions.sidecar", "en", "Auto.")
    assert best(CLIPS / "subtitled.mkv", named[1:2], "en") == ("captions.embedded", "en", "Good evening.")


def test_captions_are_fetched(talk: Path) -> None:
    private = MediaSettings(allow_private_hosts=True)
    with serving() as server:
        server.content = SRT.format("Fetched.").encode()
        named = (Caption(uri=server.url("/plain/talk.srt"), format="srt"),)
        assert best(talk, named, settings=private) == ("captions.sidecar", None, "Fetched.")


@pytest.mark.parametrize(
    "content",
    [b"", b"no captions at all", b"WEBVTT\n", bytes(1000), b"WEBVTT\n\n00:01.000 --> 00:02.000\n<i> </i>\n"],
)
def test_broken_captions_are_left_out_with_a_warning(
    talk: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    talk.with_suffix(".vtt").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert best(talk) is None
    assert "captions left out" in caplog.text


def test_after_broken_captions_come_the_next_best(talk: Path) -> None:
    missing = Caption(uri=str(talk.with_name("missing.srt")), format="srt")
    assert best(talk, (missing, inline("Next."))) == ("captions.sidecar", None, "Next.")
    assert best(CLIPS / "subtitled.mp4", (missing,)) == ("captions.embedded", "en", "Good evening.")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_captions_come_in_the_encodings_of_old_editors(talk: Path, encoding: str) -> None:
    talk.with_suffix(".srt").write_text(SRT.format("Très bien, naïve café."), encoding=encoding)
    assert best(talk) == ("captions.sidecar", None, "Très bien, naïve café.")


def test_any_bytes_become_utf_8() -> None:
    for content in (bytes(range(256)), b"\xff\xfe\x00", b"\xfe\xff\xd8\x00", b""):
        as_utf8(content).decode()
