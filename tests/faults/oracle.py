"""What must come out of uploads, and what is wrong with what did. Pure.

What must come out is made by the product itself, in memory and undisturbed: whatever dies on the way, readers of
committed records must see the same events.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from consumer.errors import UploadError
from consumer.tagging import Tools, tag_video
from schemas import VideoUploaded
from tests.faults.reader import Seen
from tests.faults.workload import Workload

Upload = tuple[str, str | None]
"""A video and its content version."""

Wrong = Literal[
    "lost upload",
    "missing revision",
    "repeated revision",
    "unknown event",
    "wrong order",
    "wrong letter",
    "readers differ",
    "hidden",
    "lag",
    "too much redone",
    "bad exit",
    "fault not hit",
]


@dataclass(frozen=True, slots=True)
class Violation:
    wrong: Wrong
    message: str

    def __str__(self) -> str:
        return f"{self.wrong}: {self.message}"


@dataclass(frozen=True)
class Expected:
    """What must come of one upload: ids of its revisions, in order, and of its cases; its dead letter's reason, of
    which there may be as many as it has records. `order` counts its video's versions. Of a `doomed` upload, which
    kills those that work on it, any first part of the revisions may come out."""

    video: str
    version: str
    order: int
    revisions: tuple[str, ...]
    cases: tuple[str, ...]
    reason: str | None = None
    records: int = 1
    doomed: bool = False


def expect(workload: Workload, tools: Tools) -> list[Expected]:
    """`tools` must not disturb."""
    records = Counter(event.data for event in workload.events)
    orders: Counter[str] = Counter()
    expected = []
    for upload in workload.uploads:
        orders[upload.video_id] += 1
        expected.append(_expect(upload, orders[upload.video_id], records[upload], tools))
    return expected


def _expect(upload: VideoUploaded, order: int, num_records: int, tools: Tools) -> Expected:
    revisions: list[str] = []
    cases: list[str] = []
    version, reason = upload.content_version, None
    try:
        for step in tag_video(upload, tools, lambda: False):
            if step.revision is not None:
                version = step.revision.tags.data.video.content_version
                revisions.append(step.revision.tags.id)
                cases += [case.id for case in step.revision.cases]
    except UploadError as error:
        reason = error.reason
    assert version is not None
    return Expected(upload.video_id, version, order, tuple(revisions), tuple(cases), reason, num_records)


def is_complete(expected: Sequence[Expected], seen: Sequence[Seen]) -> bool:
    """Whether every upload has come to its end: time to look closer."""
    ids = {one.id for one in seen}
    letters = {(one.video, one.version) for one in seen if one.kind == "letter"}
    return all((e.video, e.version) in letters if e.reason else e.revisions[-1] in ids for e in expected)


def judge(
    expected: Sequence[Expected], during: Sequence[Seen], after: Sequence[Seen], *, repeats: bool = False
) -> list[Violation]:
    """What is wrong with what was read. `repeats`: delivery is at least once, so the same may come again."""
    found: list[Violation] = []
    of_upload: dict[Upload, list[Seen]] = defaultdict(list)
    for seen in after:
        of_upload[seen.video, seen.version].append(seen)
    for one in expected:
        found += _judge_upload(one, of_upload.pop((one.video, one.version), []), repeats)
    found += [_unknown(one) for strangers in of_upload.values() for one in strangers if one.kind != "progress"]
    if not repeats:
        found += _judge_order(expected, after)
    return [*found, *_compare(during, after)]


def _judge_upload(expected: Expected, seen: Sequence[Seen], repeats: bool) -> Iterator[Violation]:
    name = f"{expected.video} {expected.version}"
    letters = [one for one in seen if one.kind == "letter"]
    events = Counter(one.id for one in seen if one.kind in ("tags", "case"))
    wanted = (*expected.revisions, *expected.cases)
    if not events and not letters:
        yield Violation("lost upload", f"{name}: nothing came of it")
        return
    missing = [number for number, id in enumerate(wanted, start=1) if id not in events]
    if missing and not expected.doomed:
        yield Violation("missing revision", f"{name}: {missing} of {len(wanted)} events")
    again = [wanted.index(id) + 1 for id in wanted if events[id] > 1]
    if again and not repeats:
        yield Violation("repeated revision", f"{name}: {again} of {len(wanted)} events")
    yield from (_unknown(one) for one in seen if one.kind in ("tags", "case") and one.id not in wanted)
    yield from _judge_letters(expected, letters, repeats)


def _judge_letters(expected: Expected, letters: Sequence[Seen], repeats: bool) -> Iterator[Violation]:
    name = f"{expected.video} {expected.version}"
    reasons = [letter.reason for letter in letters]
    if expected.reason is None and reasons:
        yield Violation("wrong letter", f"{name}: {reasons}, and it should have been tagged")
    elif expected.reason is not None and set(reasons) != {expected.reason}:
        yield Violation("wrong letter", f"{name}: {reasons}, and not {expected.reason}")
    if not repeats and any(count > 1 for count in Counter(letter.of for letter in letters).values()):
        yield Violation("wrong letter", f"{name}: several for one record")
    if len({letter.of for letter in letters}) > expected.records:
        yield Violation("wrong letter", f"{name}: {len(letters)} for {expected.records} records")


def _unknown(seen: Seen) -> Violation:
    return Violation("unknown event", f"{seen.kind} {seen.id} of {seen.video} {seen.version} at {seen.place}")


def _judge_order(expected: Sequence[Expected], seen: Sequence[Seen]) -> Iterator[Violation]:
    """A version's revisions rise by one, each naming the one before; a newer version's come after all of them."""
    orders: dict[Upload, int] = {(one.video, one.version): one.order for one in expected}
    tags: dict[str, list[Seen]] = defaultdict(list)
    for one in sorted(seen, key=lambda one: one.place):
        if one.kind == "tags" and (one.video, one.version) in orders:
            tags[one.video].append(one)
    for video, events in tags.items():
        for before, now in pairwise([None, *events]):
            assert now is not None
            if not _follows(before, now, orders):
                was = before and f"{before.version} revision {before.revision} {before.stage}"
                yield Violation("wrong order", f"{video}: {now.version} revision {now.revision} after {was}")


def _follows(before: Seen | None, now: Seen, orders: Mapping[Upload, int]) -> bool:
    if before is None:
        return now.revision == 1 and now.supersedes is None
    if before.version == now.version:
        return now.revision == before.revision + 1 and now.supersedes == before.id and before.stage != "final"
    is_newer = orders[before.video, before.version] < orders[now.video, now.version]
    told = now.supersedes == before.id or (now.supersedes is None and before.stage != "final")
    return is_newer and now.revision == 1 and told


def _compare(during: Sequence[Seen], after: Sequence[Seen]) -> Iterator[Violation]:
    """A reader during the faults sees the same events as one sees afterwards. Of progress only the last is kept."""
    then = {one.place: one.id for one in during if one.kind != "progress"}
    now = {one.place: one.id for one in after if one.kind != "progress"}
    if then != now:
        differ = sorted({*then.items()} ^ {*now.items()})
        yield Violation("readers differ", f"{len(differ)} records, the first {differ[0]}")
