"""An upload as text windows: its captions where it has any, else what is heard in it."""

from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import replace

from consumer import metrics
from consumer.batching import Batcher
from consumer.media.captions import Captions, open_captions
from consumer.media.decode import Media, open_media
from consumer.media.fetch import open_source
from consumer.revisions import Medium
from consumer.settings import Settings
from consumer.speech.transcriber import Heard, Prepared, without_speech
from consumer.speech.vad import speech_probability
from consumer.speech.windows import AudioWindow, speech_windows
from consumer.transcript import Language, TextWindow, caption_windows
from schemas import VideoUploaded

Listener = Batcher[AudioWindow, Prepared, Heard, TextWindow]


class OpenVideo:
    """One upload's open media. One thread may take `windows` while another asks for `medium`."""

    def __init__(
        self, upload: VideoUploaded, version: str, media: Media, listener: Listener, settings: Settings
    ) -> None:
        self._upload = upload
        self._version = upload.content_version or version
        self._media = media
        self._listener = listener
        self._settings = settings
        self._has_captions = False

    def medium(self) -> Medium:
        duration_s = self._media.info.duration_s or self._upload.duration_s
        return Medium(self._version, duration_s, tuple(self._degraded()))

    def _degraded(self) -> Iterator[str]:
        if self._media.damage:
            yield f"media.{self._media.damage}"
        if not (self._media.info.audio or self._has_captions):
            yield "media.no_audio"

    def windows(self, first: int, start_s: float) -> Generator["Future[TextWindow]", None, None]:
        """Text windows in order of time, from number `first` on, which starts at `start_s`; each is a future, as
        speech is heard in batches with other videos."""
        captions = open_captions(
            self._upload.uri, self._media, self._upload.captions, self._settings.media, self._upload.language
        )
        if captions is None:
            yield from self._spoken(first, start_s)
        else:
            self._has_captions = True
            for window in _left(self._captioned(captions), first, start_s):
                metrics.media_seconds.labels(window.basis).inc(window.end_s - window.start_s)
                yield _known(window)

    def _spoken(self, first: int, start_s: float) -> Iterator["Future[TextWindow]"]:
        # What lies before is decoded as well: to the sample, no container knows where a second is. An hour takes
        # 4 to 8 s, a hundredth of what hearing it does.
        with closing(self._media.audio()) as audio:
            for window in speech_windows(audio, speech_probability, self._settings.windows, first, start_s):
                metrics.media_seconds.labels("asr").inc(window.end_s - window.start_s)
                if window.speech:
                    yield self._listener.submit(window, video=self._upload.video_id, first=window.index == 0)
                else:
                    yield _known(without_speech(window))

    def _captioned(self, captions: Captions) -> Iterator[TextWindow]:
        language = Language(captions.language) if captions.language else None
        end_s, index = 0.0, -1
        for window in caption_windows(captions.segments, captions.basis, language, self._settings.windows):
            end_s, index = window.end_s, window.index
            yield window
        # Captions end before the media does. When all of it was gone through, all of it was read.
        duration_s = self._media.info.duration_s or 0.0
        if duration_s > end_s and not self._media.damage:
            yield TextWindow(index + 1, end_s, duration_s, (), captions.basis)


def _left(windows: Iterator[TextWindow], first: int, start_s: float) -> Iterator[TextWindow]:
    """The windows from number `first` on. Where others were made before (captions came, went or changed meanwhile),
    what is left of them after `start_s`, numbered from `first`."""
    for window in windows:
        if window.end_s <= start_s and (window.index < first or window.start_s < start_s):
            continue
        if window.start_s < start_s:
            segments = tuple(segment for segment in window.segments if segment.start_s >= start_s)
            window = replace(window, start_s=start_s, segments=segments)
        yield replace(window, index=first)
        first += 1


def _known(window: TextWindow) -> "Future[TextWindow]":
    future: Future[TextWindow] = Future()
    future.set_result(window)
    return future


@contextmanager
def open_video(upload: VideoUploaded, listener: Listener, settings: Settings) -> Iterator[OpenVideo]:
    """Raises UploadError when there is no such media, or nothing in it can be read."""
    with (
        open_source(upload.uri, settings.media) as source,
        open_media(source, settings.media, upload.language) as media,
    ):
        yield OpenVideo(upload, source.fingerprint, media, listener, settings)
