import threading

from hypothesis import given
from hypothesis import strategies as st

from consumer.kafka.gauges import lag_records
from consumer.kafka.jobs import Jobs
from consumer.kafka.records import Job


def hold(jobs: Jobs, partition: int, offset: int, key: bytes | None = None) -> Job:
    claim = jobs.offsets.add(partition, offset)
    job = Job(claim, "t", key, b"", [], None, 0.0, threading.Event())
    jobs.hold(job)
    return job


def house(capacity: int) -> Jobs:
    jobs = Jobs(capacity)
    jobs.offsets.assign(0)
    jobs.offsets.assign(1)
    return jobs


def test_jobs_beyond_the_capacity_are_held_and_begun_in_order_as_others_end() -> None:
    jobs = house(2)
    first, second, third = (hold(jobs, 0, offset) for offset in range(3))
    assert list(jobs.begin()) == [first, second]
    assert list(jobs.begin()) == []
    assert jobs.finish(second.claim)
    assert list(jobs.begin()) == [third]
    assert jobs.num_at_work == 2


def test_two_uploads_of_one_video_are_done_one_after_the_other() -> None:
    jobs = house(4)
    first, again = hold(jobs, 0, 0, b"v1"), hold(jobs, 0, 1, b"v1")
    other, elsewhere = hold(jobs, 0, 2, b"v2"), hold(jobs, 1, 0, b"v1")
    assert list(jobs.begin()) == [first, other, elsewhere]
    jobs.finish(other.claim)
    assert list(jobs.begin()) == []
    jobs.finish(first.claim)
    assert list(jobs.begin()) == [again]


def test_a_house_with_many_held_is_full_and_hungry_only_when_few_are_left() -> None:
    jobs = house(1)
    held = [hold(jobs, 0, offset) for offset in range(40)]
    assert jobs.is_full
    while jobs.is_full:
        assert not jobs.is_hungry
        (job,) = jobs.begin()
        jobs.finish(job.claim)
    assert not jobs.is_hungry
    while not jobs.is_hungry:
        (job,) = jobs.begin()
        jobs.finish(job.claim)
    assert job in held


def test_a_partition_that_is_taken_away_takes_its_jobs_with_it_and_no_others() -> None:
    jobs = house(2)
    gone, kept = hold(jobs, 0, 0), hold(jobs, 1, 0)
    list(jobs.begin())
    held_gone, held_kept = hold(jobs, 0, 1), hold(jobs, 1, 1)
    jobs.abandon(0)
    assert gone.cancelled.is_set()
    assert held_gone.cancelled.is_set()
    assert not kept.cancelled.is_set()
    assert not jobs.finish(gone.claim)
    assert list(jobs.begin()) == [held_kept]
    assert jobs.oldest(1) == kept


def test_giving_back_cancels_all_that_is_unfinished() -> None:
    jobs = house(2)
    done, at_work = hold(jobs, 0, 0), hold(jobs, 0, 1)
    list(jobs.begin())
    held = hold(jobs, 0, 2)
    jobs.finish(done.claim)
    jobs.stop_taking()
    assert list(jobs.begin()) == []
    assert jobs.is_full
    assert not jobs.is_hungry
    assert jobs.give_back() == 2
    assert (done.cancelled.is_set(), at_work.cancelled.is_set(), held.cancelled.is_set()) == (False, True, True)
    assert jobs.offsets.committable() == {0: 1}


@given(st.integers(1, 5), st.lists(st.sampled_from(["hold", "begin", "finish", "move"]), max_size=80))
def test_never_more_than_the_capacity_is_at_work(capacity: int, steps: list[str]) -> None:
    jobs = house(capacity)
    offset, at_work = 0, list[Job]()
    for step in steps:
        match step:
            case "hold":
                hold(jobs, offset % 2, offset)
                offset += 1
            case "begin":
                at_work += jobs.begin()
            case "finish" if at_work:
                jobs.finish(at_work.pop().claim)
            case "move":
                jobs.abandon(0)
                jobs.offsets.assign(0)
                at_work = [job for job in at_work if not job.cancelled.is_set()]
        assert jobs.num_at_work == len(at_work) <= capacity


def test_lag_counts_from_the_first_unfinished_record_and_is_unknown_before_the_first_fetch() -> None:
    assert lag_records(5, {"next_offset": 9, "ls_offset": 12}) == 7
    assert lag_records(None, {"next_offset": 9, "ls_offset": 12}) == 3
    assert lag_records(12, {"next_offset": 12, "ls_offset": 11}) == 0
    assert lag_records(None, {"next_offset": -1001, "ls_offset": 12}) is None
    assert lag_records(5, {"next_offset": 5, "ls_offset": -1001}) is None
    assert lag_records(5, None) is None
