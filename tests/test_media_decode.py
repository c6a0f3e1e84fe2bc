import io
import wave
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from consumer import metrics
from consumer.errors import PermanentError, TransientError
from consumer.media.decode import AudioChunk, CaptionTrack, Media, contiguous, open_media
from consumer.media.decoder import RawAudio
from consumer.media.fetch import open_source
from consumer.media.source import BytesSource
from consumer.media.wire import BLOCK_BYTES, SAMPLE_RATE
from consumer.settings import MediaSettings
from tests.media_clips import broken_midway, clip, cut_off, with_broken_audio
from tests.media_server import serving

SETTINGS = MediaSettings(decode_timeout_s=30)
Samples = NDArray[np.float32]

SPOKEN_S = {
    "talk.mp4": 6.98, "talk_index_last.mp4": 6.98, "subtitled.mp4": 6.98, "subtitled.mkv": 6.97,
    "talk.mp3": 6.97, "talk.ogg": 6.97, "talk.aac": 7.04, "talk.ts": 7.04, "talk.avi": 3.1, "talk.wav": 2.0,
    "talk.flac": 2.0,
}  # fmt: skip


@contextmanager
def opened(content: bytes, settings: MediaSettings = SETTINGS, language: str | None = None) -> Iterator[Media]:
    with BytesSource(content) as source, open_media(source, settings, language) as media:
        yield media


def heard(content: bytes, settings: MediaSettings = SETTINGS) -> tuple[Samples, str | None]:
    """All samples, checked to lie end to end from 0, and the damage."""
    with opened(content, settings) as media:
        chunks = list(media.audio())
        check_contiguous(chunks)
        return np.concatenate([chunk.samples for chunk in chunks] or [np.zeros(0, np.float32)]), media.damage


def check_contiguous(chunks: list[AudioChunk]) -> None:
    end_s = 0.0
    for chunk in chunks:
        assert chunk.samples.dtype == np.float32
        assert len(chunk.samples)
        assert chunk.start_s == pytest.approx(end_s, abs=1e-6)
        end_s += len(chunk.samples) / SAMPLE_RATE


def refusal(content: bytes) -> PermanentError:
    with pytest.raises(PermanentError) as raised:
        heard(content)
    assert raised.value.stage == "decode"
    return raised.value


def loudness(samples: Samples) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def wav(pcm: bytes) -> bytes:
    """A file that needs no conversion."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        writer.writeframes(pcm)
    return file.getvalue()


# --- sound media ---


@pytest.mark.parametrize("name", SPOKEN_S)
def test_every_container_becomes_the_same_speech(name: str) -> None:
    samples, damage = heard(clip(name))
    assert damage is None
    assert len(samples) / SAMPLE_RATE == pytest.approx(SPOKEN_S[name], abs=0.01)
    assert 0.03 < loudness(samples) < 0.3
    assert np.abs(samples).max() <= 1.0


def test_audio_that_needs_no_conversion_comes_through_exactly() -> None:
    values = np.random.default_rng(1).integers(-32768, 32768, 50_001).astype("<i2")
    samples, damage = heard(wav(values.tobytes()))
    assert np.array_equal(samples * 32768, values)
    assert damage is None


def test_containers_agree_on_when_a_word_is_said() -> None:
    """Also where the file's clock starts at 3.3 s, as in the transport stream."""
    reference, _ = heard(clip("talk.mp4"))
    for name in ("talk.ts", "talk.ogg", "talk.mp3", "subtitled.mkv"):
        samples, _ = heard(clip(name))
        length = min(len(reference), len(samples))
        envelopes = [np.abs(audio[:length]) for audio in (reference, samples)]
        smooth = [np.convolve(envelope, np.ones(800) / 800, "same")[::160] for envelope in envelopes]
        centred = [envelope - envelope.mean() for envelope in smooth]
        lag = int(np.argmax(np.correlate(centred[0], centred[1], "full"))) - (len(centred[0]) - 1)
        assert abs(lag) * 0.01 < 0.1, name


def test_a_medium_describes_itself() -> None:
    with opened(clip("talk.mp4")) as media:
        assert (media.info.duration_s, media.info.audio, media.info.captions) == (8.0, True, None)
    with opened(clip("no_audio.mp4")) as media:
        assert (media.info.duration_s, media.info.audio, media.info.captions) == (3.0, False, None)
    with opened(clip("subtitled.mkv")) as media:
        assert media.info.captions == CaptionTrack("fr")
    with opened(clip("subtitled.mkv"), language="en-GB") as media:
        assert media.info.captions == CaptionTrack("en")


def test_video_without_an_audio_track_yields_nothing() -> None:
    samples, damage = heard(clip("no_audio.mp4"))
    assert len(samples) == 0
    assert damage is None


def test_silence_is_silent() -> None:
    samples, damage = heard(clip("silence.mp4"))
    assert len(samples) / SAMPLE_RATE == pytest.approx(3.0, abs=0.1)
    assert np.abs(samples).max() < 1e-3
    assert damage is None


def test_a_gap_in_the_timestamps_is_silence() -> None:
    samples, damage = heard(clip("gap.mkv"))
    assert len(samples) / SAMPLE_RATE == pytest.approx(6.97, abs=0.05)
    assert not samples[int(3.2 * SAMPLE_RATE) : int(4.8 * SAMPLE_RATE)].any()
    assert loudness(samples[5 * SAMPLE_RATE :]) > 0.01
    assert damage is None


def test_embedded_captions_are_read_as_text() -> None:
    for name in ("subtitled.mp4", "subtitled.mkv"):
        with opened(clip(name), language="en") as media:
            cues = list(media.cues())
            assert media.damage is None
        assert [cue.text for cue in cues] == [
            "Good evening.",
            "Tonight we walk along the river and count the herons.",
            "There were seven & one had a fish.",
        ]
        assert [cue.start_s for cue in cues] == pytest.approx([0.2, 1.6, 5.0], abs=0.01)
        assert [cue.end_s for cue in cues] == pytest.approx([1.5, 4.9, 8.0], abs=0.01)


def test_a_medium_can_be_read_twice_and_in_both_ways() -> None:
    with opened(clip("subtitled.mp4")) as media:
        assert len(list(media.cues())) == 3
        first = sum(len(chunk.samples) for chunk in media.audio())
        assert sum(len(chunk.samples) for chunk in media.audio()) == first > 0


def test_the_length_is_bounded() -> None:
    samples, _ = heard(clip("talk.mp4"), SETTINGS.model_copy(update={"max_duration_s": 2.25}))
    assert len(samples) == 2.25 * SAMPLE_RATE
    with opened(clip("subtitled.mp4"), SETTINGS.model_copy(update={"max_duration_s": 4.0})) as media:
        assert len(list(media.cues())) == 2


def test_the_first_audio_comes_before_the_rest_was_read() -> None:
    class Watched(BytesSource):
        furthest = 0

        def read_at(self, offset: int, size: int) -> bytes:
            self.furthest = max(self.furthest, offset + size)
            return super().read_at(offset, size)

    long = wav(bytes(2 * SAMPLE_RATE * 600))
    with Watched(long) as source, open_media(source, SETTINGS) as media:
        next(media.audio())
        assert source.furthest <= 4 * BLOCK_BYTES < len(long) / 10


@pytest.mark.parametrize("behaviour", ["ranges", "plain", "chunked"])
@pytest.mark.parametrize("name", ["talk_index_last.mp4", "talk.ts", "subtitled.mkv"])
def test_media_is_decoded_from_any_server(behaviour: str, name: str) -> None:
    settings = MediaSettings(allow_private_hosts=True)
    with serving() as server:
        server.content = clip(name)
        with (
            open_source(server.url(f"/{behaviour}/{name}"), settings) as source,
            open_media(source, settings) as media,
        ):
            assert sum(len(chunk.samples) for chunk in media.audio()) / SAMPLE_RATE == pytest.approx(
                SPOKEN_S[name], abs=0.01
            )


def test_a_source_that_fails_midway_fails_the_reading() -> None:
    settings = MediaSettings(allow_private_hosts=True, read_timeout_s=0.5)
    with serving() as server:
        server.content = clip("talk.mp4")
        with (
            open_source(server.url("/stall/talk.mp4"), settings) as source,
            pytest.raises(TransientError) as raised,
            open_media(source, settings) as media,
        ):
            list(media.audio())
    assert raised.value.reason == "fetch_timeout"


# --- spoilt media ---


def test_a_truncated_mp4_still_counts_what_was_read() -> None:
    before = metrics.media_damaged.labels("truncated")._value.get()
    samples, damage = heard(cut_off(clip("talk.mp4"), 0.6))
    assert damage == "truncated"
    assert 3.0 < len(samples) / SAMPLE_RATE < 4.5
    assert loudness(samples) > 0.03
    assert metrics.media_damaged.labels("truncated")._value.get() == before + 1


@pytest.mark.parametrize("name", ["subtitled.mkv", "talk.ts", "talk.aac", "talk_index_last.mp4"])
def test_what_is_left_of_other_truncated_media(name: str) -> None:
    content = cut_off(clip(name), 0.6)
    if name == "talk_index_last.mp4":
        assert refusal(content).reason == "truncated"
        return
    samples, damage = heard(content)
    assert damage == "truncated"
    assert 3.0 < len(samples) / SAMPLE_RATE < 4.5


@pytest.mark.parametrize("name", ["talk.mp4", "talk_index_last.mp4", "talk.ts", "talk.ogg"])
def test_what_follows_a_broken_stretch_is_read_at_its_time(name: str) -> None:
    whole, _ = heard(clip(name))
    samples, damage = heard(broken_midway(clip(name)))
    assert damage == "damaged"
    assert len(samples) == pytest.approx(len(whole), abs=0.2 * SAMPLE_RATE)
    tail = slice(int(6.0 * SAMPLE_RATE), int(6.9 * SAMPLE_RATE))
    assert loudness(samples[tail]) == pytest.approx(loudness(whole[tail]), rel=0.2)


def test_captions_of_a_truncated_file_count_as_far_as_they_go() -> None:
    for name in ("subtitled.mp4", "subtitled.mkv"):
        with opened(cut_off(clip(name), 0.6), language="en") as media:
            assert len(list(media.cues())) == 2
            assert media.damage == "truncated"


def test_a_file_of_which_nothing_can_be_decoded_is_refused() -> None:
    assert refusal(with_broken_audio(clip("talk.mp4"))).reason == "undecodable"
    assert refusal(cut_off(clip("talk.mp4"), 0.15)).reason == "truncated"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"This is a text file that somebody named .mp4.\n" * 100, "not_media"),
        (b"<!doctype html><title>404</title>\n" * 100, "not_media"),
        (bytes(10_000), "not_media"),
        (b"x", "not_media"),
        (clip("talk.flv"), "not_media"),
        (clip("talk.mp4")[:40], "no_streams"),
    ],
)
def test_what_is_no_media_is_refused(content: bytes, reason: str) -> None:
    assert refusal(content).reason == reason


def test_an_audio_codec_that_is_not_read_here_is_named() -> None:
    error = refusal(clip("wma.mkv"))
    assert error.reason == "unsupported_codec"
    assert "wmav2" in str(error)


# --- the layout of time, on its own ---


@given(
    st.lists(st.tuples(st.floats(-1e9, 1e9), st.integers(1, 20_000)), max_size=20),
    st.none() | st.floats(0.1, 100),
    st.floats(0.1, 50),
)
def test_whatever_the_timestamps_audio_lies_end_to_end(
    stamps: list[tuple[float, int]], duration_s: float | None, max_duration_s: float
) -> None:
    blocks = [RawAudio(start_s, bytes(2 * count)) for start_s, count in stamps]
    chunks = [chunk for chunk, _ in contiguous(blocks, duration_s, max_duration_s)]
    check_contiguous(chunks)
    total = sum(len(chunk.samples) for chunk in chunks)
    assert total <= round(max_duration_s * SAMPLE_RATE)


@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=20), st.floats(0, 0.04))
def test_exact_or_rounded_timestamps_change_no_sample(counts: list[int], error_s: float) -> None:
    values = np.arange(sum(counts)) % 1000
    blocks, start = [], 0
    for count in counts:
        pcm = values[start : start + count].astype("<i2").tobytes()
        blocks.append(RawAudio(start / SAMPLE_RATE + error_s, pcm))
        start += count
    chunks = [chunk for chunk, _ in contiguous(blocks, None, 1e6)]
    assert np.array_equal(np.concatenate([chunk.samples for chunk in chunks]) * 32768, values)


def test_a_clock_that_starts_anew_is_followed() -> None:
    second = bytes(2 * SAMPLE_RATE)
    starts_s = (0, 1, 2, 0, 1, 2.5, 90_000, 90_001)
    laid = list(contiguous([RawAudio(start_s, second) for start_s in starts_s], None, 1e6))
    assert [chunk.start_s for chunk, is_real in laid if is_real] == [0, 1, 2, 3, 4, 5.5, 6.5, 7.5]
    assert [chunk.start_s for chunk, is_real in laid if not is_real] == [5.0]


def test_a_gap_is_believed_within_the_declared_length() -> None:
    second = bytes(2 * SAMPLE_RATE)
    for duration_s, start_s in ((3000.0, 2000.0), (1500.0, 1.0), (None, 1.0)):
        laid = list(contiguous([RawAudio(0, second), RawAudio(2000, second)], duration_s, 1e6))
        assert laid[-1][0].start_s == start_s


def test_overlapping_blocks_keep_their_times() -> None:
    second = bytes(2 * SAMPLE_RATE)
    laid = [chunk for chunk, _ in contiguous([RawAudio(0, second), RawAudio(0.5, second)], None, 1e6)]
    assert sum(len(chunk.samples) for chunk in laid) == 1.5 * SAMPLE_RATE
