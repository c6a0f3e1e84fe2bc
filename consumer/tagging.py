"""One video, start to end. Read this first.

A video is a row of text windows. The LLM reads each window once; what it says adds to the video's evidence; tags are
read out of the evidence, and published whenever they have changed enough and once more at the end. After each window,
a checkpoint says all that anybody needs to go on from there.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from typing import Protocol

from consumer.ahead import ahead
from consumer.checkpoint import Checkpoint, Story
from consumer.errors import Abandoned
from consumer.evidence import Evidence
from consumer.minors import suspicion
from consumer.quotes import Quotes, ReadPassage
from consumer.revisions import Clock, Makers, Medium, Revision, Revisions
from consumer.settings import WindowSettings
from consumer.tags import worth_publishing
from consumer.transcript import Passage, Segment, TextWindow, caption_windows
from schemas import VideoUploaded


class OpenMedia(Protocol):
    """An open video: its text windows in order, each as soon as it is known, and what is known of it so far."""

    def windows(self, first: int, start_s: float) -> Iterator["Future[TextWindow]"]: ...
    def medium(self) -> Medium: ...


@dataclass(frozen=True)
class Tools:
    """What tagging a video needs of the house."""

    open: Callable[[VideoUploaded], AbstractContextManager[OpenMedia]]
    read: ReadPassage
    makers: Makers
    windows_ahead: int


@dataclass(frozen=True)
class Start:
    """What is known of earlier work on a video.

    `checkpoint` is where to go on, None for the beginning. The first revision supersedes the event `supersedes`, the
    last one of the content version before. `revisions_out` partial revisions went out although the checkpoint is
    gone: they are made again, and not yielded again.
    """

    checkpoint: Checkpoint | None = None
    supersedes: str | None = None
    revisions_out: int = 0


@dataclass(frozen=True)
class Step:
    """One window more, or the end: what goes out now, and where the work stands after it."""

    revision: Revision | None
    checkpoint: Checkpoint


def tag_video(
    upload: VideoUploaded,
    tools: Tools,
    is_cancelled: Callable[[], bool],
    queued_s: float | None = None,
    recall: Callable[[str], Start] = lambda content_version: Start(),
) -> Generator[Step, None, None]:
    """Yields a step for each window, with a revision of the video's tags whenever they are worth publishing, and one
    more with the final revision.

    `recall` is asked once, when the media are open and their content version is known; what it raises goes through.
    The revisions depend on the media, the models and the settings only, never on the clock or on other videos, and not
    on where the work was interrupted: an upload that is tagged again gives the same ones, with the same ids, and one
    that goes on from a checkpoint gives those that were still to come.

    Raises UploadError when the video cannot be tagged, Abandoned as soon as `is_cancelled`.
    """
    clock = Clock(queued_s)
    quotes = Quotes(tools.read, upload.video_id)
    with tools.open(upload) as media:
        start = recall(media.medium().content_version)
        at = start.checkpoint or Checkpoint(clock.times)
        clock.go_on(at.times)
        revisions = Revisions(upload, tools.makers, quotes, clock, at.history, start.supersedes)
        with closing(ahead(media.windows(at.next_window, at.start_s), tools.windows_ahead)) as transcripts:
            for transcript in transcripts:
                window = transcript.result()
                if is_cancelled():
                    raise Abandoned(f"{upload.video_id}: taken away while it was being read")
                story = read_window(at.story, window, upload, tools)
                tags = tools.makers.tags(story)
                revision = None
                if worth_publishing(tags, at.history.published, media.medium().duration_s):
                    # Windows are made ahead: what is known of later ones by now is a matter of time, so it is not told.
                    revision = revisions.next(tags, story, replace(media.medium(), degraded=()), "partial")
                at = Checkpoint(clock.times, window.index + 1, window.end_s, story, revisions.history)
                yield Step(revision if at.revision > start.revisions_out else None, at)
        story = at.story
        if not story.evidence.words:
            for window in metadata_windows(upload):
                story = read_window(story, window, upload, tools)
        tags = tools.makers.tags(story)
        revision = revisions.next(tags, story, media.medium(), "final")
        yield Step(revision, replace(at, times=clock.times, story=story, history=revisions.history))


def revisions_of(steps: Iterable[Step]) -> Iterator[Revision]:
    """What goes out, for those who keep no checkpoints."""
    return (step.revision for step in steps if step.revision is not None)


def read_window(story: Story, window: TextWindow, upload: VideoUploaded, tools: Tools) -> Story:
    """The story with what the LLM makes of one window more."""
    media_s = window.end_s - window.start_s
    read_out = tools.makers.read_out
    if not window.words:
        return story.add(window, Evidence.of_window(window.index, 0, media_s, read_out.aspects, {}))
    passage = Passage(window.text, None if window.basis == "metadata" else upload.title, window.start_s)
    logits = tools.read(passage, video=upload.video_id, first=window.index == 0).result()
    evidence = Evidence.of_window(window.index, window.words, media_s, read_out.aspects, logits)
    return story.add(window, evidence, suspicion(passage, evidence, read_out.policy))


def metadata_windows(upload: VideoUploaded) -> Iterator[TextWindow]:
    """What the uploader wrote, for a video in which nothing is said."""
    written = (upload.title, upload.description, " ".join(upload.hashtags))
    segments = (Segment(0.0, 0.0, " ".join(text.split())) for text in written if text and text.strip())
    return caption_windows(segments, "metadata", None, WindowSettings())
