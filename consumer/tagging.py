"""One video, start to end. Read this first.

A video is a row of text windows. The LLM reads each window once; what it says adds to the video's evidence; tags are
read out of the evidence, and published whenever they have changed enough and once more at the end.
"""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from typing import Protocol

from consumer.ahead import ahead
from consumer.errors import Abandoned
from consumer.evidence import Evidence
from consumer.quotes import Quotes, ReadPassage
from consumer.revisions import Makers, Medium, Revision, Revisions, Story
from consumer.settings import WindowSettings
from consumer.tags import Tags, read_tags, worth_publishing
from consumer.transcript import Passage, Segment, TextWindow, caption_windows
from schemas import VideoUploaded


class OpenMedia(Protocol):
    """An open video: its text windows in order, each as soon as it is known, and what is known of it so far."""

    def windows(self) -> Iterator["Future[TextWindow]"]: ...
    def medium(self) -> Medium: ...


@dataclass(frozen=True)
class Tools:
    """What tagging a video needs of the house."""

    open: Callable[[VideoUploaded], AbstractContextManager[OpenMedia]]
    read: ReadPassage
    makers: Makers
    windows_ahead: int


def tag_video(
    upload: VideoUploaded, tools: Tools, is_cancelled: Callable[[], bool], queued_s: float | None = None
) -> Generator[Revision, None, None]:
    """Yields each revision of the video's tags as soon as it is known; the last one is final.

    The revisions depend on the media, the models and the settings only, never on the clock or on other videos: an
    upload that is tagged again gives the same ones, with the same ids.

    Raises UploadError when the video cannot be tagged, Abandoned as soon as `is_cancelled`.
    """
    quotes = Quotes(tools.read, upload.video_id)
    revisions = Revisions(upload, tools.makers, quotes, queued_s)
    story = Story()
    published: Tags | None = None
    with tools.open(upload) as media, closing(ahead(media.windows(), tools.windows_ahead)) as transcripts:
        for transcript in transcripts:
            window = transcript.result()
            if is_cancelled():
                raise Abandoned(f"{upload.video_id}: taken away while it was being read")
            story.add(window, read_window(window, upload, tools))
            tags = read_tags(story.evidence, tools.makers.read_out)
            if worth_publishing(tags, published, media.medium().duration_s):
                published = tags
                # Windows are made ahead: what is known of later ones by now is a matter of time, so it is not told.
                yield revisions.next(tags, story, replace(media.medium(), degraded=()), "partial")
        if not story.evidence.words:
            for window in metadata_windows(upload):
                story.add(window, read_window(window, upload, tools))
        yield revisions.next(read_tags(story.evidence, tools.makers.read_out), story, media.medium(), "final")


def read_window(window: TextWindow, upload: VideoUploaded, tools: Tools) -> Evidence:
    """What the LLM makes of one window."""
    media_s = window.end_s - window.start_s
    aspects = tools.makers.read_out.aspects
    if not window.words:
        return Evidence.of_window(window.index, 0, media_s, aspects, {})
    passage = Passage(window.text, None if window.basis == "metadata" else upload.title, window.start_s)
    logits = tools.read(passage, video=upload.video_id, first=window.index == 0).result()
    return Evidence.of_window(window.index, window.words, media_s, aspects, logits)


def metadata_windows(upload: VideoUploaded) -> Iterator[TextWindow]:
    """What the uploader wrote, for a video in which nothing is said."""
    written = (upload.title, upload.description, " ".join(upload.hashtags))
    segments = (Segment(0.0, 0.0, " ".join(text.split())) for text in written if text and text.strip())
    return caption_windows(segments, "metadata", None, WindowSettings())
