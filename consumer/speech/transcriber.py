"""Speech to text, in batches across videos: Whisper's encoder and decoder driven directly.

Whisper was trained on 30 s of audio, 3000 frames of 10 ms, and on no other length; but a shorter one costs far less.
How short is safe was measured with tiny.en, int8, on 5 minutes of synthetic voices and 26 s of a person reading, each
cut five ways, to windows of 9 to 28 s; wrong words in %:

    lengths                   synthetic   reading   encoder's time
    3000                      4.4         1.4       100 %
    1500, 2000, 3000          4.5         2.0        44 %
    1500, 2000, 2500, 3000    4.6         2.0        34 %
    and 1000                  7.9, loops  2.0        35 %
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ctranslate2 import DataType, Device, StorageView
from ctranslate2.models import WhisperGenerationResult
from numpy.typing import NDArray

from consumer import metrics
from consumer.speech.guards import Hypothesis, flaw
from consumer.speech.model import SpeechModel
from consumer.speech.windows import SAMPLE_RATE, AudioWindow, Samples
from consumer.transcript import Language, Segment, TextWindow, sentences

BUCKETS = (1500, 2000, 2500, 3000)
_FRAME_SAMPLES = 160
_FRAMES_PER_SECOND = SAMPLE_RATE // _FRAME_SAMPLES
_MAX_TOKENS_PER_SECOND = 9
_MAX_TOKENS = 224  # half of the decoder's positions: what Whisper was trained to write for 30 s
_SHORTLY_S = 1.0
_GREEDY = {"beam_size": 1}
_CAREFUL = {"beam_size": 5, "no_repeat_ngram_size": 5}


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A window's speech as log-mel features, [mels, frames of 10 ms], filled up to a length in BUCKETS."""

    features: NDArray[np.float32]

    @property
    def bucket(self) -> int:
        """Only windows of one length share a batch."""
        return int(self.features.shape[1])

    @property
    def cost(self) -> int:
        """In frames: the encoder works through all of them, silence or not."""
        return self.bucket


@dataclass(frozen=True, slots=True)
class Heard:
    """What was said, empty where nothing was; the language where it was detected or declared."""

    text: str
    language: Language | None


class Transcriber:
    """A speech model behind three calls: `prepare` and `finish` for one window on the CPU, `run` for a batch.

    Each window is heard on its own: neither the text before it nor the other windows of its batch enter.
    Decoding is greedy, without timestamps. What the guards doubt is decoded once more from the same encoder
    output, by beam search without repeated 5-grams: Whisper's own way out, sampling at a higher temperature,
    would give other text, and so other events, each time. What is doubtful still is dropped and counted.
    """

    def __init__(self, model: SpeechModel) -> None:
        self._model = model
        self._token_ids = model.tokenizer.get_vocab()
        self._end_id = self._token_ids["<|endoftext|>"]  # text has smaller ids, all else has larger ones

    def prepare(self, window: AudioWindow) -> Prepared:
        """For a window with speech; `without_speech` answers for the others."""
        speech = _speech(window)
        frames = -(-len(speech) // _FRAME_SAMPLES)
        bucket = min(length for length in BUCKETS if length >= frames)
        filled = np.pad(speech, (0, bucket * _FRAME_SAMPLES - len(speech)))
        # As in training. faster-whisper fills up the features instead: reading 3.1 % wrong, not 2.0.
        return Prepared(self._model.features(filled, padding=0).astype(np.float32))

    def run(self, batch: Sequence[Prepared]) -> list[Heard]:
        """What was said in each; all of one bucket."""
        features = np.stack([item.features for item in batch])
        encoded = self._model.whisper.encode(StorageView.from_array(features))
        languages = self._languages(encoded, len(batch))
        prompts = [self._prompt(language) for language in languages]
        hypotheses = self._hypotheses(encoded, prompts, _max_tokens(batch[0].bucket))
        return [_believed(heard, language) for heard, language in zip(hypotheses, languages, strict=True)]

    def finish(self, window: AudioWindow, heard: Heard) -> TextWindow:
        """The text in sentences; their times are estimates: the text is spread evenly over the speech."""
        speech_s = window.speech_s
        spoken = TextWindow(0, 0.0, speech_s, (Segment(0.0, speech_s, heard.text),), "asr")
        segments = tuple(_in_media_time(sentence, window) for sentence in sentences(spoken))
        return TextWindow(window.index, window.start_s, window.end_s, segments, "asr", heard.language)

    def _languages(self, encoded: StorageView, size: int) -> list[Language | None]:
        if self._model.language is not None:
            return [Language(self._model.language)] * size
        if not self._model.whisper.is_multilingual:
            return [None] * size
        ranked = self._model.whisper.detect_language(encoded)
        return [Language(token.strip("<|>"), p) for ((token, p), *_) in ranked]

    def _prompt(self, language: Language | None) -> list[int]:
        tokens = ["<|startoftranscript|>", "<|notimestamps|>"]
        if language is not None and self._model.whisper.is_multilingual:
            tokens[1:1] = [f"<|{language.code}|>", "<|transcribe|>"]
        return [self._token_ids[token] for token in tokens]

    def _hypotheses(self, encoded: StorageView, prompts: list[list[int]], max_tokens: int) -> list[Hypothesis]:
        heard = self._decode(encoded, prompts, max_tokens, _GREEDY)
        doubtful = [row for row, hypothesis in enumerate(heard) if flaw(hypothesis) in ("repetitive", "unsure")]
        if doubtful:
            doubtful_prompts = [prompts[row] for row in doubtful]
            again = self._decode(_rows(encoded, doubtful), doubtful_prompts, max_tokens, _CAREFUL)
            for row, hypothesis in zip(doubtful, again, strict=True):
                heard[row] = hypothesis
        return heard

    def _decode(
        self, encoded: StorageView, prompts: list[list[int]], max_tokens: int, search: Mapping[str, int]
    ) -> list[Hypothesis]:
        results = self._model.whisper.generate(
            encoded,
            prompts,
            max_length=2 * max_tokens,  # CTranslate2 halves it, to leave room for previous text
            return_scores=True,
            return_no_speech_prob=True,
            **search,
        )
        return [self._hypothesis(result) for result in results]

    def _hypothesis(self, result: WhisperGenerationResult) -> Hypothesis:
        tokens = result.sequences_ids[0]
        text = self._model.tokenizer.decode([token for token in tokens if token < self._end_id])
        # The score is a mean without the end token, which counts as well.
        log_probability = result.scores[0] * len(tokens) / (len(tokens) + 1) if tokens else 0.0
        return Hypothesis(" ".join(text.split()), log_probability, result.no_speech_prob)


def without_speech(window: AudioWindow) -> TextWindow:
    """The text of a window in which nothing is said."""
    return TextWindow(window.index, window.start_s, window.end_s, (), "asr")


def _speech(window: AudioWindow) -> Samples:
    """The window's speech without the silence around and between."""

    def sample(at_s: float) -> int:
        return round((at_s - window.start_s) * SAMPLE_RATE)

    return np.concatenate([window.samples[sample(start_s) : sample(end_s)] for start_s, end_s in window.speech])


def _in_media_time(sentence: Segment, window: AudioWindow) -> Segment:
    """From seconds of the window's speech to seconds of the media.

    People pause between sentences: one that by its letters starts shortly before a silence starts after it,
    and one that ends shortly after a silence ended before it.
    """
    shortly_s = min(_SHORTLY_S, (sentence.end_s - sentence.start_s) / 2)
    early_s, first = _in_speech(sentence.start_s + shortly_s, window)
    late_s, last = _in_speech(sentence.end_s - shortly_s, window)
    return Segment(max(first[0], early_s - shortly_s), min(last[1], late_s + shortly_s), sentence.text)


def _in_speech(speech_s: float, window: AudioWindow) -> tuple[float, tuple[float, float]]:
    """When in the media so much of the window's speech is over, and the stretch of speech that this is in."""
    for span in window.speech:
        length_s = span[1] - span[0]
        if speech_s <= length_s:
            return span[0] + speech_s, span
        speech_s -= length_s
    return window.speech[-1][1], window.speech[-1]


def _max_tokens(bucket: int) -> int:
    """From the bucket, which a batch shares: a limit of each window's own would make batches differ."""
    return min(_MAX_TOKENS, _MAX_TOKENS_PER_SECOND * bucket // _FRAMES_PER_SECOND)


def _rows(encoded: StorageView, rows: list[int]) -> StorageView:
    states = np.asarray(encoded.to_device(Device.cpu).to(DataType.float32))
    return StorageView.from_array(np.ascontiguousarray(states[rows]))


def _believed(heard: Hypothesis, language: Language | None) -> Heard:
    reason = flaw(heard)
    if reason is None:
        return Heard(heard.text, language if heard.text else None)
    metrics.windows_dropped.labels(reason).inc()
    return Heard("", None)
