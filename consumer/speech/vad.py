"""Which frames are speech: Silero VAD 6, the network that faster-whisper ships."""

import numpy as np
from faster_whisper.vad import get_vad_model

from consumer.speech.windows import FRAME_SAMPLES, Probabilities, Samples

_CONTEXT_SAMPLES = 64


def speech_probability(samples: Samples) -> Probabilities:
    """Each frame's probability of speech, heard in order; `samples` is a whole number of frames, and is not changed.

    faster-whisper's own call overwrites part of the samples it is given, so its ONNX session is run here directly.
    Several threads may run a session at once: all share one.
    """
    frames = samples.reshape(-1, FRAME_SAMPLES)
    contexts = np.pad(frames[:-1, -_CONTEXT_SAMPLES:], ((1, 0), (0, 0)))
    state = np.zeros((1, 1, 128), np.float32)
    inputs = {"input": np.concatenate([contexts, frames], axis=1), "h": state, "c": state}
    probabilities: Probabilities = get_vad_model().session.run(None, inputs)[0]
    return probabilities.reshape(-1)
