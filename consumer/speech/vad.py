"""Which frames are speech: Silero VAD 6, the network that faster-whisper ships, fed as the audio comes."""

import numpy as np
from faster_whisper.vad import get_vad_model

from consumer.speech.windows import FRAME_SAMPLES, Probabilities, Samples

_CONTEXT_SAMPLES = 64


class SpeechDetector:
    """The speech probabilities of one audio: what was heard is carried over to the next call.

    faster-whisper's own call forgets its state every time and overwrites part of the samples it is given, so
    its ONNX session is run here directly. Several threads may run a session at once: all detectors share one.
    """

    def __init__(self) -> None:
        self._session = get_vad_model().session
        self._h = np.zeros((1, 1, 128), np.float32)
        self._c = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(_CONTEXT_SAMPLES, np.float32)

    def __call__(self, samples: Samples) -> Probabilities:
        """Each frame's probability of speech; `samples` is a whole number of frames, and is not changed."""
        frames = samples.reshape(-1, FRAME_SAMPLES)
        tails = frames[:, -_CONTEXT_SAMPLES:]
        contexts = np.concatenate([self._context[None], tails[:-1]])
        probabilities: Probabilities
        probabilities, self._h, self._c = self._session.run(
            None, {"input": np.concatenate([contexts, frames], axis=1), "h": self._h, "c": self._c}
        )
        self._context = tails[-1].copy()
        return probabilities.reshape(-1)
