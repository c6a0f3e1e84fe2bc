"""Work done twice: how many windows, and whether they were those in flight. Pure.

Each session (one opening of an upload's media) must begin where the progress stood that had been committed before
it. Everything past that was in flight when the session before it ended, and only that may be worked on again.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.faults.journal import Worked
from tests.faults.oracle import Violation
from tests.faults.reader import Seen

_Upload = tuple[str, str]


@dataclass(frozen=True)
class Redo:
    """`again` of all `worked` windows had been worked on before."""

    worked: int
    again: int
    violations: tuple[Violation, ...]


def judge_redo(journal: Sequence[Worked], progress: Iterable[Seen]) -> Redo:
    """`progress` is as it came to a reader during the faults."""
    stood: dict[_Upload, list[Seen]] = defaultdict(list)
    for seen in progress:
        if seen.kind == "progress" and seen.version is not None:
            stood[seen.video, seen.version].append(seen)
    windows = [worked for worked in journal if worked.window >= 0]
    distinct = {(worked.video, worked.version, worked.window) for worked in windows}
    return Redo(len(windows), len(windows) - len(distinct), tuple(_too_early(journal, stood)))


def _too_early(journal: Sequence[Worked], stood: dict[_Upload, list[Seen]]) -> Iterator[Violation]:
    opened: dict[tuple[int, int], Worked] = {}
    for worked in journal:
        if worked.window < 0:
            opened[worked.pid, worked.session] = worked
        elif opening := opened.pop((worked.pid, worked.session), None):
            upload = worked.video, worked.version
            known = max((seen.next_window for seen in stood[upload] if seen.at_s < opening.at_s), default=0)
            if worked.window < known:
                message = f"{' '.join(upload)}: begun at window {worked.window}, and {known} were done and committed"
                yield Violation("too much redone", message)
