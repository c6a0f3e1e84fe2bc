"""Tells speech from what Whisper makes up: loops, guesses, its phrases for silence and music. Pure."""

import re
import zlib
from dataclasses import dataclass
from typing import Literal

# The thresholds of Whisper's own decoder (Radford et al. 2022, arXiv 2212.04356, section 4.5).
_MAX_COMPRESSION = 2.4
_MIN_LOG_PROBABILITY = -1.0
_MAX_NO_SPEECH = 0.6

Flaw = Literal["no_speech", "repetitive", "unsure", "invented"]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What the model heard in a window.

    `log_probability` is the mean over its tokens and the end; `no_speech` is the probability that there is
    nothing to transcribe.
    """

    text: str
    log_probability: float
    no_speech: float


def flaw(hypothesis: Hypothesis) -> Flaw | None:
    """Why the text should not be believed; None for text that may."""
    is_unsure = hypothesis.log_probability < _MIN_LOG_PROBABILITY
    if is_unsure and hypothesis.no_speech > _MAX_NO_SPEECH:
        return "no_speech"
    if _compression(hypothesis.text) > _MAX_COMPRESSION:
        return "repetitive"
    if is_unsure:
        return "unsure"
    return "invented" if _is_invented(hypothesis.text) else None


def _compression(text: str) -> float:
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def _is_invented(text: str) -> bool:
    """Whether the whole text is phrases that Whisper learnt from ends of videos and credits of subtitles.

    A real "thank you" that stands alone in a window is dropped as well: it says nothing about the topic. What
    Whisper says to noise was collected by Barański et al. 2025 (arXiv 2501.11378).
    """
    said = [_plain(sentence) for sentence in re.split(r"[.!?…]+(?:\s|$)|[。！？]", text)]
    return any(said) and all(not sentence or sentence in _INVENTED or _CREDIT.search(sentence) for sentence in said)


def _plain(text: str) -> str:
    """Small letters, without punctuation."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


_CREDIT = re.compile(r"\bamara\b|\bopensubtitles\b|\bcastingwords\b|\bim auftrag des zdf\b|^(subtitles|captions) by\b")
_INVENTED = frozenset(
    line.strip()
    for line in """
    you
    bye
    bye bye
    so
    oh
    hmm
    music
    applause
    silence
    thank you
    thank you very much
    thank you so much
    thanks
    thanks for watching
    thank you for watching
    thanks for listening
    thank you for listening
    thank you for your time
    please subscribe
    please subscribe to my channel
    please like and subscribe
    don t forget to like and subscribe
    like and subscribe
    see you next time
    see you in the next video
    i ll see you next time
    i ll see you in the next video
    we ll be right back
    the end
    vielen dank
    danke
    danke fürs zuschauen
    vielen dank fürs zuschauen
    bis zum nächsten mal
    merci
    merci d avoir regardé cette vidéo
    merci d avoir regardé
    gracias
    gracias por ver el video
    gracias por ver el vídeo
    suscríbete
    grazie
    grazie per aver guardato il video
    obrigado
    obrigado por assistir
    obrigada
    tchau
    спасибо
    спасибо за просмотр
    продолжение следует
    ご視聴ありがとうございました
    ありがとうございました
    谢谢
    谢谢观看
    謝謝觀看
    請不吝點贊訂閱轉發打賞支持明鏡與點點欄目
    시청해주셔서 감사합니다
    감사합니다
    """.strip().splitlines()
)
