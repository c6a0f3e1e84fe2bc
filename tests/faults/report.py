"""What a drill has found, and the figures that it measured."""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.faults.arena import Kill
from tests.faults.journal import Worked
from tests.faults.oracle import Violation
from tests.faults.reader import Seen
from tests.faults.redo import Redo


@dataclass(frozen=True)
class Report:
    """`faults` are those that were really hit. `recoveries_s` are the times from a kill to the next revision of each
    video that the killed process had in hand."""

    drill: str
    seed: int
    took_s: float
    faults: Mapping[str, int]
    uploads: int
    revisions: int
    redo: Redo
    recoveries_s: Sequence[float]
    violations: Sequence[Violation]

    @property
    def row(self) -> str:
        recovery = "-"
        if self.recoveries_s:
            recovery = f"{statistics.median(self.recoveries_s):.1f}/{max(self.recoveries_s):.1f} s"
        verdict = f"{len(self.violations)} VIOLATIONS" if self.violations else "ok"
        return (
            f"{self.drill:<18} {self.uploads:>7} {self.revisions:>9} {self.redo.again:>5}/{self.redo.worked:<6}"
            f" {recovery:>13} {self.took_s:>6.0f} s  {verdict}"
        )

    @property
    def lines(self) -> Iterator[str]:
        hit = ", ".join(f"{count} {fault}" for fault, count in sorted(self.faults.items()))
        yield f"{self.drill}: seed {self.seed}, hit: {hit or 'nothing'}"
        shown = Counter(violation.wrong for violation in self.violations)
        for violation in self.violations:
            shown[violation.wrong] -= 1
            if shown[violation.wrong] < _MOST_SHOWN:
                yield f"  VIOLATION {violation}"


HEADING = (
    f"{'drill':<18} {'uploads':>7} {'revisions':>9} {'redone/worked':>12} {'next revision':>13} {'took':>8}  verdict"
)
_MOST_SHOWN = 5  # of a kind


def recoveries_s(kills: Sequence[Kill], journal: Sequence[Worked], seen: Sequence[Seen]) -> list[float]:
    """From each kill of a process to the next revision of each upload that it had in hand. Pure."""
    tags = [one for one in seen if one.kind == "tags"]
    ends = {(one.video, one.version): one.at_s for one in seen if one.stage == "final" or one.kind == "letter"}
    found = []
    for kill in kills:
        holder = {(w.video, w.version): w.pid for w in journal if w.at_s <= kill.at_s}
        for upload, pid in holder.items():
            if pid == kill.pid and ends.get(upload, float("inf")) > kill.at_s:
                after = [t.at_s for t in tags if (t.video, t.version) == upload and t.at_s > kill.at_s]
                found += [min(after) - kill.at_s] if after else []
    return found
