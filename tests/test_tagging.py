"""Videos, start to end, with real media and the real default models."""

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from consumer.checkpoint import Checkpoint, Times
from consumer.errors import Abandoned, PermanentError
from consumer.evidence import Logits
from consumer.revisions import Revision
from consumer.tagging import Start, Step, Tools, revisions_of, tag_video
from consumer.transcript import Passage
from schemas import CaseEvent, VideoTags, VideoUploaded
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
    return list(revisions_of(tag_video(video, tools, is_cancelled)))


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
    cases = [case.data for revision in made for case in revision.cases if isinstance(case, CaseEvent)]
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


class Run:
    """One way through a video: its steps, and at each how much was heard and which windows were read so far."""

    def __init__(self, tools: Tools, video: VideoUploaded, known: Start | None = None) -> None:
        self.steps: list[Step] = []
        self.heard_s: list[float] = []
        self.read: list[list[str]] = []
        self.asked: list[str] = []
        self._known = known or Start()
        recorder, before_s = Recorder(tools), heard_s()
        for step in tag_video(video, recorder.tools, lambda: False, recall=self.recall):
            self.steps.append(step)
            self.heard_s.append(heard_s() - before_s)
            self.read.append([passage.framed() for passage in recorder.passages if passage.title])

    def recall(self, content_version: str) -> Start:
        self.asked.append(content_version)
        return self._known

    @property
    def revisions(self) -> list[object]:
        """All but the times."""
        return [step.revision and lasting(step.revision) for step in self.steps]

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """All but the times."""
        return [replace(step.checkpoint, times=Times(0.0)) for step in self.steps]


def lasting(revision: Revision) -> object:
    tags = revision.tags.model_dump(exclude={"time": True, "data": {"timing": True}})
    return tags, [case.model_dump(exclude={"time"}) for case in revision.cases]


def heard_s() -> float:
    return REGISTRY.get_sample_value("tagstream_media_seconds_total", {"basis": "asr"}) or 0.0


def carried(checkpoint: Checkpoint) -> Checkpoint:
    """As another process gets it."""
    return Checkpoint.from_json(json.loads(json.dumps(checkpoint.to_json())))


# With speech; with a case; with captions; with no words but the uploader's.
@pytest.mark.parametrize("name", ["samples/football", "samples/crypto", "samples/hike", "clips/silence"])
def test_a_video_goes_on_after_any_window_as_if_nothing_had_happened(name: str, tools: Tools) -> None:
    goes_on_after_any_window(upload(MEDIA / f"{name}.mp4", title="A video", description="Our kitten at the vet"), tools)


def test_captions_of_which_all_are_at_one_time_go_on_after_any_window(tools: Tools) -> None:
    lines = (f"00:01.000 --> 00:02.000\nLap {lap}: two goals, five corners and a penalty.\n\n" for lap in range(40))
    captions = {"inline": "WEBVTT\n\n" + "".join(lines), "format": "vtt", "language": "en"}
    goes_on_after_any_window(upload(MEDIA / "clips" / "silence.mp4", title="A video", captions=[captions]), tools)


def goes_on_after_any_window(video: VideoUploaded, tools: Tools) -> None:
    whole = Run(tools, video)
    assert len(whole.steps) >= 2
    for number, stopped in enumerate(whole.steps[:-1], start=1):
        rest = Run(tools, video, Start(carried(stopped.checkpoint)))
        assert rest.revisions == whole.revisions[number:]
        assert rest.checkpoints == whole.checkpoints[number:]
        assert rest.read[-1] == whole.read[-1][len(whole.read[number - 1]) :]
        assert rest.heard_s[-1] == pytest.approx(max(0.0, whole.heard_s[-1] - stopped.checkpoint.start_s))


def test_recall_is_asked_once_and_what_it_raises_goes_through(tools: Tools) -> None:
    video = upload(MEDIA / "clips" / "silence.mp4", content_version="v7")
    assert Run(tools, video).asked == ["v7"]

    def refuse(content_version: str) -> Start:
        raise KeyError(content_version)

    with pytest.raises(KeyError, match="v7"):
        list(tag_video(video, tools, lambda: False, recall=refuse))


def test_the_first_revision_supersedes_what_is_remembered_of_the_version_before(tools: Tools) -> None:
    run = Run(tools, upload(MEDIA / "samples" / "hike.mp4"), Start(supersedes="e9"))
    events = [revision.tags for revision in revisions_of(run.steps)]
    assert [event.data.status.supersedes for event in events] == ["e9", *(event.id for event in events[:-1])]


def test_revisions_that_went_out_already_are_made_again_and_not_yielded_again(tools: Tools) -> None:
    video = upload(MEDIA / "samples" / "hike.mp4")
    whole = Run(tools, video)
    numbers = [step.checkpoint.revision for step in whole.steps]
    for num_out in (1, numbers[-2], 99):
        again = Run(tools, video, Start(revisions_out=num_out))
        assert again.checkpoints == whole.checkpoints
        is_new = [number > num_out for number in numbers[:-1]] + [True]
        assert again.revisions == [made if new else None for made, new in zip(whole.revisions, is_new, strict=True)]


def test_times_count_from_when_the_upload_was_taken_up_first(tools: Tools) -> None:
    video = upload(MEDIA / "samples" / "hike.mp4")
    whole = Run(tools, video)
    first_tag_s = whole.steps[-2].checkpoint.times.first_tag_s
    assert first_tag_s is not None
    an_hour_ago = Times(time.time() - 3600, 7.5, first_tag_s)
    rest = Run(tools, video, Start(carried(replace(whole.steps[-2].checkpoint, times=an_hour_ago))))
    (final,) = revisions_of(rest.steps)
    timing = final.tags.data.timing
    assert (timing.queued_s, timing.first_tag_s) == (7.5, first_tag_s)
    assert timing.total_s is not None
    assert 3600 <= timing.total_s < 3600 + 60
    assert rest.steps[-1].checkpoint.times == an_hour_ago


def test_a_clock_that_is_behind_the_one_before_gives_no_negative_times(tools: Tools) -> None:
    ahead = Checkpoint(Times(time.time() + 3600))
    (final,) = revisions_of(Run(tools, upload(MEDIA / "clips" / "silence.mp4"), Start(ahead)).steps)
    assert final.tags.data.timing.total_s is not None
    assert 0 <= final.tags.data.timing.total_s < 60


CUES = (
    "1\n00:00:01,000 --> 00:00:06,000\nThe keeper saved the penalty and we won the cup on the last kick.\n\n"
    "2\n00:00:07,000 --> 00:00:12,000\nTwo goals from the corner, and the referee sent their striker off.\n\n"
    "3\n00:00:40,000 --> 00:00:44,000\nNext week the final is played in our own stadium.\n"
)


@pytest.mark.parametrize(("first", "then"), [(None, CUES), (CUES, None), (CUES, CUES.replace("00:00:40", "00:00:30"))])
def test_captions_that_came_went_or_changed_meanwhile_are_read_from_where_the_work_stood(
    first: str | None, then: str | None, tools: Tools, tmp_path: Path
) -> None:
    path, captions = tmp_path / "talk.mp4", tmp_path / "talk.srt"
    path.write_bytes((MEDIA / "samples" / "dal.mp4").read_bytes())
    captions.write_text(first or "")
    video = upload(path, title="A talk")
    stopped = Run(tools, video).steps[1].checkpoint
    captions.write_text(then or "")
    rest = Run(tools, video, Start(carried(stopped)))
    *windows, last = [step.checkpoint for step in rest.steps]
    assert [window.next_window for window in windows] == list(range(3, 3 + len(windows)))
    assert last.revision > stopped.revision
    assert "penalty" not in " ".join(rest.read[-1])  # said before
    (final,) = revisions_of(rest.steps[-1:])
    status = final.tags.data.status
    assert status.basis == (("captions.sidecar", "asr") if None in (first, then) else ("captions.sidecar",))
    assert status.coverage.ratio == pytest.approx(1.0, abs=0.03)


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
