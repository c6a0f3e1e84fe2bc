"""Text with its times: what captions and speech recognition both become."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from consumer.settings import WindowSettings

Basis = Literal["captions.embedded", "captions.sidecar", "asr", "metadata"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of text and when it is said, in seconds from the start of the media."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Language:
    """ISO 639-1 code and how sure the recogniser is; `p` is None when somebody declared it."""

    code: str
    p: float | None = None


@dataclass(frozen=True, slots=True)
class TextWindow:
    """About half a minute of text: the unit that the LLM reads.

    `start_s` to `end_s` is the media that the window covers, silence included; windows of one video lie end to
    end. `segments` is empty where nothing was said.
    """

    index: int
    start_s: float
    end_s: float
    segments: tuple[Segment, ...]
    basis: Basis
    language: Language | None = None

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments)

    @property
    def words(self) -> int:
        """How much is said: words, or for scripts without spaces a twelfth of the letters."""
        return max(len(self.text.split()), len(self.text) // 12)


@dataclass(frozen=True, slots=True)
class Passage:
    """What the LLM reads at once: a window of a video, or a sentence of one. Title and time enter as text."""

    text: str
    title: str | None = None
    start_s: float = 0.0

    def framed(self) -> str:
        """The text that the model sees. Uploader text is data: its white space is folded, so that it stays in its
        line and cannot look like anything else."""
        title = " ".join((self.title or "").split())[:_MAX_TITLE_CHARACTERS]
        minutes, seconds = divmod(int(self.start_s), 60)
        heading = f"Title: {title}\n" if title else ""
        return f"{heading}Transcript at {minutes}:{seconds:02d}:\n{' '.join(self.text.split())}"


_MAX_TITLE_CHARACTERS = 200
_SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！")
_CLOSERS = "\"'”’)]»"
_SHORT_WORDS, _LONG_WORDS = 4, 32
_LONG_CHARACTERS = 400
# Captions with broken times would put a whole film into one window, of which the LLM would see only the beginning.
_MAX_WINDOW_WEIGHT, _MAX_CUE_WEIGHT = 380.0, 120.0


def sentences(window: TextWindow) -> list[Segment]:
    """The window's sentences, each word for word as it stands in the window's text, with its own times.

    A sentence ends at a full stop or its like, and in text without any after 32 words or 400 letters; fewer than 4
    words do not stand alone. A word's time is its place among the letters of its segment.
    """
    found: list[list[Segment]] = [[]]
    for word in (word for segment in window.segments for word in _words(segment)):
        found[-1].append(word)
        ended = ends_sentence(word.text) and len(found[-1]) >= _SHORT_WORDS
        if ended or len(found[-1]) == _LONG_WORDS or sum(len(w.text) + 1 for w in found[-1]) > _LONG_CHARACTERS:
            found.append([])
    if len(found) > 1 and len(found[-1]) < _SHORT_WORDS:
        rest = found.pop()
        found[-1].extend(rest)
    return [_joined(words) for words in found if words]


def ends_sentence(word: str) -> bool:
    return word.rstrip(_CLOSERS).endswith(_SENTENCE_ENDS)


def _words(segment: Segment) -> Iterator[Segment]:
    words = segment.text.split()
    letters = sum(len(word) + 1 for word in words)
    pace_s = (segment.end_s - segment.start_s) / letters if letters else 0.0
    at = 0
    for word in words:
        end = at + len(word) + 1
        yield Segment(segment.start_s + at * pace_s, segment.start_s + end * pace_s, word)
        at = end


def _joined(words: list[Segment]) -> Segment:
    return Segment(words[0].start_s, words[-1].end_s, " ".join(word.text for word in words))


def caption_windows(
    cues: Iterable[Segment], basis: Basis, language: Language | None, settings: WindowSettings
) -> Iterator[TextWindow]:
    """Groups cues, in order of time, into windows that lie end to end from 0, none longer than the LLM can read."""
    index, start_s, held = 0, 0.0, list[Segment]()
    for cue in (part for whole in cues for part in _parts(whole)):
        weight = sum(_weight(segment.text) for segment in held)
        late = cue.start_s >= start_s + window_length_s(index, settings)
        if held and (late or weight + _weight(cue.text) > _MAX_WINDOW_WEIGHT):
            end_s = max(cue.start_s, start_s)
            yield TextWindow(index, start_s, end_s, tuple(held), basis, language)
            index, start_s, held = index + 1, end_s, []
        held.append(cue)
    if held:
        yield TextWindow(index, start_s, max(held[-1].end_s, start_s), tuple(held), basis, language)


def _parts(cue: Segment) -> Iterator[Segment]:
    """A cue as it is, or a very long one in parts; a word that is too long itself is cut."""
    if _weight(cue.text) <= _MAX_CUE_WEIGHT:
        yield cue
        return
    held: list[Segment] = []
    for word in (part for whole in _words(cue) for part in _cut(whole)):
        if held and sum(_weight(w.text) for w in held) + _weight(word.text) > _MAX_CUE_WEIGHT:
            yield _joined(held)
            held = []
        held.append(word)
    yield _joined(held)


def _cut(word: Segment) -> Iterator[Segment]:
    length = max(1, int(_MAX_CUE_WEIGHT / 4))  # if each letter had the most bytes
    for at in range(0, len(word.text), length):
        yield Segment(word.start_s, word.end_s, word.text[at : at + length])


def _weight(text: str) -> float:
    """About how many tokens a text has, at worst: a token for each byte of what is no Latin letter."""
    plain = sum(letter.isascii() and (letter.isalpha() or letter.isspace()) for letter in text)
    return 0.4 * (plain + 1) + len(text.encode(errors="replace")) - plain


def window_length_s(index: int, settings: WindowSettings) -> float:
    """How long a window should be: the first ones are short, so that the first tags come early."""
    return (settings.first_s, settings.second_s)[index] if index < 2 else settings.then_s
