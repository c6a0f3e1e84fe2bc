from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from consumer.kafka.gauges import lag_records
from consumer.kafka.jobs import Jobs
from consumer.kafka.ledger import Ledger
from consumer.kafka.offsets import MAX_GAP, Claim, OffsetTracker, Partition
from consumer.kafka.records import Job

HERE, THERE = Partition("uploads", 0), Partition("uploads", 1)
RETRIES = Partition("retries", 0)
LEDGER = Ledger()


def hold(
    jobs: Jobs,
    offset: int,
    key: bytes | None = None,
    partition: Partition = HERE,
    not_before_ms: int = 0,
    value: bytes = b"",
) -> Job:
    claim = jobs.offsets.add(partition, offset)
    assert claim
    job = Job(claim, key, value, [], None, float(offset), LEDGER, not_before_ms)
    jobs.hold(job, now_ms=0)
    return job


def begin(jobs: Jobs, now_ms: int = 0) -> list[Job]:
    return list(jobs.begin(now_ms))


def finish(jobs: Jobs, claim: Claim) -> bool:
    jobs.end(claim)
    return jobs.offsets.done(claim)


def house(capacity: int) -> Jobs:
    jobs = Jobs(capacity, OffsetTracker())
    for partition in (HERE, THERE, RETRIES):
        jobs.offsets.assign(partition)
    return jobs


def test_jobs_beyond_the_capacity_are_held_and_begun_in_order_as_others_end() -> None:
    jobs = house(2)
    first, second, third = (hold(jobs, offset) for offset in range(3))
    assert begin(jobs) == [first, second]
    assert begin(jobs) == []
    jobs.end(second.claim)
    assert begin(jobs) == [third]
    assert jobs.num_at_work == 2


def test_two_uploads_of_one_video_are_done_one_after_the_other() -> None:
    jobs = house(4)
    first, again = hold(jobs, 0, b"v1"), hold(jobs, 1, b"v1")
    other, elsewhere = hold(jobs, 2, b"v2"), hold(jobs, 0, b"v1", THERE)
    assert begin(jobs) == [first, other, elsewhere]
    jobs.end(other.claim)
    assert begin(jobs) == []
    jobs.end(first.claim)
    assert begin(jobs) == [again]


def test_an_upload_and_a_retry_of_its_video_are_done_one_after_the_other() -> None:
    jobs = house(4)
    first, retry = hold(jobs, 0, b"v1"), hold(jobs, 0, b"v1", RETRIES)
    assert begin(jobs) == [first]
    jobs.end(first.claim)
    assert begin(jobs) == [retry]


def test_records_without_a_key_do_not_wait_for_each_other() -> None:
    jobs = house(4)
    both = [hold(jobs, 0), hold(jobs, 1)]
    assert begin(jobs) == both


def test_a_retry_waits_for_its_time_and_lets_others_pass() -> None:
    jobs = house(4)
    late, early = (hold(jobs, n, partition=RETRIES, not_before_ms=time_ms) for n, time_ms in enumerate([2000, 1000]))
    now = hold(jobs, 0)
    assert begin(jobs, 999) == [now]
    assert jobs.num_waiting == 2
    assert begin(jobs, 1000) == [early]
    assert begin(jobs, 5000) == [late]
    assert jobs.num_waiting == 0


def test_retries_of_one_time_are_begun_in_the_order_they_came() -> None:
    jobs = house(9)
    waiting = [hold(jobs, offset, partition=RETRIES, not_before_ms=1000) for offset in range(9)]
    assert begin(jobs, 1000) == waiting


def test_what_waits_does_not_make_the_house_full() -> None:
    jobs = house(1)
    for offset in range(1100):
        hold(jobs, offset, partition=RETRIES, not_before_ms=1000)
    assert not jobs.is_full
    assert jobs.is_hungry
    begin(jobs, 1000)
    assert jobs.is_full


def test_the_waiting_room_has_room_for_a_thousand() -> None:
    jobs = house(1)
    for offset in range(1000):
        assert not jobs.is_waiting_room_full
        hold(jobs, offset, partition=RETRIES, not_before_ms=1000)
    assert jobs.is_waiting_room_full
    begin(jobs, 1000)
    assert not jobs.is_waiting_room_full


def test_the_waiting_room_has_room_for_so_many_bytes() -> None:
    jobs = house(1)
    for offset in range(16):
        assert not jobs.is_waiting_room_full
        hold(jobs, offset, partition=RETRIES, not_before_ms=1000, value=bytes(4 << 20))
    assert jobs.is_waiting_room_full


def test_a_partition_is_stretched_when_its_first_unfinished_record_lies_too_far_behind() -> None:
    jobs = house(2)
    first, second = hold(jobs, 0), hold(jobs, 1)
    hold(jobs, MAX_GAP - 2)
    assert not jobs.is_stretched(HERE)
    hold(jobs, MAX_GAP - 1)
    assert jobs.is_stretched(HERE)
    assert not jobs.is_stretched(THERE)
    finish(jobs, second.claim)
    assert jobs.is_stretched(HERE)
    finish(jobs, first.claim)
    assert not jobs.is_stretched(HERE)


def test_a_house_with_many_held_is_full_and_hungry_only_when_few_are_left() -> None:
    jobs = house(1)
    for offset in range(1100):
        hold(jobs, offset)
    num_left = {"full": 0, "hungry": 0}
    for left in range(1100, 0, -1):
        num_left["full"] = left if jobs.is_full else num_left["full"]
        num_left["hungry"] = max(num_left["hungry"], left if jobs.is_hungry else 0)
        (job,) = begin(jobs)
        jobs.end(job.claim)
    assert num_left == {"full": 1000, "hungry": 250}


def test_a_partition_that_is_taken_away_takes_its_jobs_with_it_and_no_others() -> None:
    jobs = house(2)
    gone, kept = hold(jobs, 0), hold(jobs, 0, partition=THERE)
    begin(jobs)
    hold(jobs, 1)
    held_kept = hold(jobs, 1, partition=THERE)
    hold(jobs, 2, not_before_ms=1000)
    waiting_kept = hold(jobs, 2, partition=THERE, not_before_ms=1000)
    jobs.abandon(HERE)
    assert gone.cancelled.is_set()
    assert not kept.cancelled.is_set()
    assert not jobs.offsets.done(gone.claim)
    assert jobs.offsets.partitions == (THERE, RETRIES)
    assert begin(jobs) == [held_kept]
    assert jobs.num_waiting == 1
    jobs.end(kept.claim)
    assert begin(jobs, 1000) == [waiting_kept]


def test_what_waits_keeps_its_order_when_a_partition_is_taken_away() -> None:
    jobs = house(9)
    times_ms = [1, 9, 2, 8, 3, 7, 4, 6, 5]
    waiting = {
        time_ms: hold(jobs, n, partition=HERE if time_ms % 3 == 1 else RETRIES, not_before_ms=time_ms * 1000)
        for n, time_ms in enumerate(times_ms)
    }
    jobs.abandon(HERE)
    assert begin(jobs, 9000) == [waiting[time_ms] for time_ms in (2, 3, 5, 6, 8, 9)]


def test_a_job_that_ends_after_its_partition_was_taken_away_frees_nobodys_place() -> None:
    jobs = house(1)
    gone = hold(jobs, 0)
    begin(jobs)
    jobs.abandon(HERE)
    jobs.offsets.assign(HERE)
    again = hold(jobs, 0)
    assert begin(jobs) == [again]
    jobs.end(gone.claim)
    assert jobs.num_at_work == 1


def test_leaving_lets_the_windows_in_hand_end_and_begins_nothing_more() -> None:
    jobs = house(1)
    at_work, held = hold(jobs, 0), hold(jobs, 1)
    begin(jobs)
    jobs.stop_taking()
    assert at_work.leaving.is_set()
    assert not at_work.cancelled.is_set()
    assert not held.leaving.is_set()
    assert jobs.is_full
    assert not jobs.is_hungry
    jobs.end(at_work.claim)
    assert begin(jobs) == []


def test_cancelling_stops_what_is_at_work_in_those_partitions_which_stay_ours_for_now() -> None:
    jobs = house(3)
    at_work, retry, elsewhere = hold(jobs, 0), hold(jobs, 0, partition=RETRIES), hold(jobs, 0, partition=THERE)
    begin(jobs)
    jobs.cancel([HERE, RETRIES])
    assert [job.cancelled.is_set() for job in (at_work, retry, elsewhere)] == [True, True, False]
    assert jobs.offsets.partitions == (HERE, THERE, RETRIES)
    assert jobs.num_at_work == 3


def test_the_age_of_a_partition_is_that_of_its_oldest_unfinished_record() -> None:
    jobs = house(1)
    assert jobs.age_s(HERE, now_s=10.0) == 0
    first = hold(jobs, 2)
    hold(jobs, 3)
    assert jobs.age_s(HERE, now_s=10.0) == 8.0
    begin(jobs)
    assert jobs.age_s(HERE, now_s=10.0) == 8.0
    finish(jobs, first.claim)
    assert jobs.age_s(HERE, now_s=10.0) == 7.0


@examples(deadline=None)
@given(
    st.integers(1, 5),
    st.lists(
        st.sampled_from(["hold", "hold with a key", "hold for later", "begin", "end", "move"]), min_size=10, max_size=80
    ),
)
def test_never_more_than_the_capacity_nor_two_of_one_lane_are_at_work_and_none_is_lost(
    capacity: int, steps: list[str]
) -> None:
    jobs = house(capacity)
    offset, at_work, begun, expected = 0, list[Job](), set[Job](), set[Job]()
    for step in [*steps, *["begin", "end"] * len(steps)]:
        partition = HERE if offset % 2 else THERE
        match step:
            case "begin":
                new = begin(jobs, offset * 1000)
                assert begun.isdisjoint(new)
                begun.update(new)
                at_work += new
            case "end":
                while at_work:
                    jobs.end(at_work.pop().claim)
            case "move":
                jobs.abandon(HERE)
                jobs.offsets.assign(HERE)
                at_work = [job for job in at_work if not job.cancelled.is_set()]
                expected = {job for job in expected if job.claim.partition != HERE or job in begun}
            case _:
                key = b"video" if step == "hold with a key" else None
                later_ms = (offset + 3) * 1000 if step == "hold for later" else 0
                expected.add(hold(jobs, offset, key, partition, later_ms))
                offset += 1
        assert jobs.num_at_work == len(at_work) <= capacity
        lanes = [(job.claim.partition.number, job.key) for job in at_work if job.key]
        assert len(set(lanes)) == len(lanes)
    while new := begin(jobs, 1_000_000):
        begun.update(new)
        for job in new:
            jobs.end(job.claim)
    assert begun == expected


def test_lag_counts_from_the_first_unfinished_record_and_is_unknown_before_the_first_fetch() -> None:
    assert lag_records(5, {"next_offset": 9, "ls_offset": 12}) == 7
    assert lag_records(None, {"next_offset": 9, "ls_offset": 12}) == 3
    assert lag_records(12, {"next_offset": 12, "ls_offset": 11}) == 0
    assert lag_records(None, {"next_offset": -1001, "ls_offset": 12}) is None
    assert lag_records(5, {"next_offset": 5, "ls_offset": -1001}) is None
    assert lag_records(5, None) is None
