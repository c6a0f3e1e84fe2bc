"""Videos, start to end, with real media and the real default models."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from consumer.errors import Abandoned, PermanentError
from consumer.evidence import Logits
from consumer.revisions import Revision
from consumer.tagging import Tools, tag_video
from consumer.transcript import Passage
from schemas import VideoTags, VideoUploaded
from tests.conftest import MEDIA

SAMPLES = sorted((MEDIA / "samples").glob("*.mp4"))


class Recorder:
    """Tools that remember which passages were read."""

    def __init__(self, tools: Tools) -> None:
        self.passages: list[Passage] = []
        self.tools = replace(tools, read=self.read)
        self._read = tools.read

    def read(self, passage: Passage, *, video: str, first: bool) -> "Future[dict[str, Logits]]":
        self.passages.append(passage)
        return self._read(passage, video=video, first=first)


def upload(path: Path, **known: object) -> VideoUploaded:
    return VideoUploaded.model_validate({"video_id": path.stem, "uri": str(path), **known})


def tagged(tools: Tools, video: VideoUploaded, is_cancelled: Callable[[], bool] = lambda: False) -> list[VideoTags]:
    return [revision.tags.data for revision in revisions(tools, video, is_cancelled)]


def revisions(tools: Tools, video: VideoUploaded, is_cancelled: Callable[[], bool] = lambda: False) -> list[Revision]:
    return list(tag_video(video, tools, is_cancelled))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: str(path.stem))
def test_a_minute_of_speech_gives_growing_tags(path: Path, tools: Tools) -> None:
    recorder = Recorder(tools)
    events = tagged(recorder.tools, upload(path))
    *partials, final = events
    assert len(partials) >= 2
    assert [event.status.stage for event in partials] == ["partial"] * len(partials)
    assert final.status.stage == "final"
    covered = [event.status.coverage.media_s for event in events]
    assert all(before < after for before, after in pairwise(covered))
    assert final.status.coverage.ratio == pytest.approx(1.0, abs=0.03)
    assert [event.status.revision for event in events] == list(range(1, len(events) + 1))
    read = [" ".join(passage.text.split()) for passage in recorder.passages]
    for event in events:
        for evidence in event.evidence:
            assert any(evidence.quote in passage for passage in read)
            assert evidence.start_s is not None
            assert evidence.end_s is not None
            assert 0 <= evidence.start_s < evidence.end_s <= event.status.coverage.media_s + 0.01


@pytest.mark.parametrize(
    ("name", "topics"),
    [
        ("dal", {"210"}),  # Food & Drink
        ("football", {"483"}),  # Sports
        ("laptop", {"596"}),  # Technology & Computing
        ("hike", {"653", "150", "239"}),  # Travel, Attractions, Hobbies & Interests
        ("crypto", {"391", "52"}),  # Personal Finance, Business and Finance
    ],
)
def test_the_samples_are_about_what_they_are_about(name: str, topics: set[str], tools: Tools) -> None:
    final = tagged(tools, upload(MEDIA / "samples" / f"{name}.mp4"))[-1]
    assert final.tags is not None
    assert {tag.id for tag in final.tags[:3]} & topics
    assert len(final.tags) >= 5


def test_the_scam_makes_a_case_with_its_quote(tools: Tools) -> None:
    made = revisions(tools, upload(MEDIA / "samples" / "crypto.mp4", uploader_id="u1"))
    cases = [case.data for revision in made for case in revision.cases]
    scams = [case for case in cases if case.label == "scam_spam_malware"]
    assert len(scams) == 1
    (scam,) = scams
    assert scam.video.uploader_id == "u1"
    assert scam.seek_s <= (scam.evidence[0].start_s or 0.0)
    assert scam.tags_event_id in {revision.tags.id for revision in made}


def test_four_videos_in_flight_give_what_each_gives_alone(tools: Tools) -> None:
    videos = [upload(path) for path in SAMPLES[:4]]
    alone = [tagged(tools, video)[-1] for video in videos]
    with ThreadPoolExecutor(4) as pool:
        together = [events[-1] for events in pool.map(lambda video: tagged(tools, video), videos)]
    for one, other in zip(alone, together, strict=True):
        assert one.tags is not None
        assert other.tags is not None
        assert {tag.id: tag.p for tag in one.tags} == pytest.approx({tag.id: tag.p for tag in other.tags}, abs=2e-4)
        assert [tag.id for tag in one.tags if tag.accepted] == [tag.id for tag in other.tags if tag.accepted]
        assert [evidence.quote for evidence in one.evidence] == [evidence.quote for evidence in other.evidence]
        assert one.status == other.status


def test_tagging_again_gives_the_same_revisions_with_the_same_ids(tools: Tools) -> None:
    video = upload(SAMPLES[0])
    first, second = revisions(tools, video), revisions(tools, video)
    assert [revision.tags.id for revision in first] == [revision.tags.id for revision in second]
    assert [r.tags.data.tags for r in first] == [r.tags.data.tags for r in second]
    assert len({revision.tags.id for revision in first}) == len(first)
    assert [r.tags.data.status.supersedes for r in first] == [None, *(r.tags.id for r in first[:-1])]


def test_another_version_of_the_content_has_other_ids(tools: Tools) -> None:
    one = revisions(tools, upload(MEDIA / "speech" / "bicycle.ogg", content_version="a"))
    other = revisions(tools, upload(MEDIA / "speech" / "bicycle.ogg", content_version="b"))
    assert one[-1].tags.data.tags == other[-1].tags.data.tags
    assert not {r.tags.id for r in one} & {r.tags.id for r in other}


def test_embedded_captions_are_read_instead_of_listening(tools: Tools) -> None:
    final = tagged(tools, upload(MEDIA / "samples" / "hike.mp4"))[-1]
    assert final.status.basis == ("captions.embedded",)
    assert {evidence.modality for evidence in final.evidence} <= {"captions"}


def test_captions_beside_the_file_are_read(tools: Tools, tmp_path: Path) -> None:
    video = tmp_path / "talk.mp4"
    video.write_bytes((MEDIA / "samples" / "dal.mp4").read_bytes())
    (tmp_path / "talk.en.srt").write_text(
        "1\n00:00:01,000 --> 00:00:06,000\nThe keeper saved the penalty and we won the cup on the last kick.\n\n"
        "2\n00:00:07,000 --> 00:00:12,000\nTwo goals from the corner, and the referee sent their striker off.\n"
    )
    final = tagged(tools, upload(video))[-1]
    assert final.status.basis == ("captions.sidecar",)
    assert final.tags is not None
    assert final.tags[0].id == "483"
    assert final.video.language is not None
    assert (final.video.language.code, final.video.language.p, final.video.language.supported) == ("en", None, True)


@pytest.mark.parametrize(
    ("name", "degraded"), [("silence.mp4", ()), ("no_audio.mp4", ("media.no_audio",)), ("music.ogg", ())]
)
def test_nothing_to_read_ends_in_an_honest_final_event(name: str, degraded: tuple[str, ...], tools: Tools) -> None:
    (final,) = tagged(tools, upload(MEDIA / "clips" / name))
    assert final.status.stage == "final"
    assert final.status.basis == ()
    assert final.status.degraded == degraded
    assert final.status.coverage.ratio == (0.0 if degraded else pytest.approx(1.0, abs=0.05))
    assert (final.tags, final.sentiment, final.moderation, final.description) == (None, None, None, None)
    assert final.evidence == ()


def test_where_nothing_is_said_the_uploaders_words_are_read_and_marked(tools: Tools) -> None:
    video = upload(
        MEDIA / "clips" / "no_audio.mp4",
        title="My cat chasing her tail",
        description="Our kitten at the vet, and her new toys",
    )
    (final,) = tagged(tools, video)
    assert final.status.basis == ("metadata",)
    assert final.status.coverage.media_s == 0.0
    assert final.tags is not None
    assert final.tags[0].id == "422"  # Pets
    assert all(evidence.modality == "metadata" and evidence.start_s is None for evidence in final.evidence)


def test_a_video_that_is_taken_away_is_abandoned(tools: Tools) -> None:
    with pytest.raises(Abandoned):
        tagged(tools, upload(SAMPLES[0]), lambda: True)


def test_a_missing_file_says_so(tools: Tools, tmp_path: Path) -> None:
    with pytest.raises(PermanentError) as caught:
        tagged(tools, upload(tmp_path / "gone.mp4"))
    assert caught.value.reason == "file_not_found"
