"""The script that somebody without Tagstream would write, with the same models: one file after the other,
faster-whisper's `transcribe` as it comes, then one `generate` of the language model in the precision that
transformers chooses by itself (that of the file: bf16 for the default model)."""

from pathlib import Path
from typing import Any

from faster_whisper import WhisperModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from consumer.llm.loading import load_llm
from consumer.references import resolve
from consumer.settings import Settings

_QUESTION = "\n\nThe topic of this transcript, in one word:"
_ANSWER_TOKENS = 8


class PlainScript:
    """Loads both models; `tag` is what the script does with a video."""

    def __init__(self, settings: Settings) -> None:
        speech = resolve(settings.speech.model, settings.cache_path)
        self._whisper = WhisperModel(str(speech or settings.speech.model), "cpu", compute_type="int8")
        folder = load_llm(settings).tokenizer.name_or_path
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._llm: Any = AutoModelForCausalLM.from_pretrained(folder)

    def tag(self, path: Path) -> str:
        """The model's word for the topic."""
        segments, _ = self._whisper.transcribe(str(path))
        transcript = "".join(segment.text for segment in segments)
        inputs = self._tokenizer(transcript + _QUESTION, return_tensors="pt")
        output = self._llm.generate(**inputs, max_new_tokens=_ANSWER_TOKENS, do_sample=False)
        answer: str = self._tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return answer.strip().partition("\n")[0]
