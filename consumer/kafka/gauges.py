"""Shows where each partition of the input topic stands."""

import time
from collections.abc import Mapping
from typing import Any

from consumer import metrics
from consumer.kafka.jobs import Jobs


def show(jobs: Jobs, topic: str, seen: Mapping[str, Any]) -> None:
    """`seen` is librdkafka's statistics of the input topic (STATISTICS.md of librdkafka)."""
    for partition in jobs.offsets.partitions:
        if partition.topic != topic:
            continue
        label = str(partition.number)
        metrics.oldest_unfinished_seconds.labels(partition=label).set(jobs.age_s(partition, time.monotonic()))
        metrics.offset_gap.labels(partition=label).set(jobs.offsets.gap(partition))
        lag = lag_records(jobs.offsets.first_unfinished(partition), seen.get("partitions", {}).get(label))
        if lag is not None:
            metrics.lag.labels(partition=label).set(lag)


def forget(number: int) -> None:
    """Takes away the gauges of a partition that is no longer ours."""
    for gauge in (metrics.lag, metrics.oldest_unfinished_seconds, metrics.offset_gap):
        gauge.labels(partition=str(number))  # one that was never shown cannot be removed
        gauge.remove(str(number))


def lag_records(first_unfinished: int | None, seen: Mapping[str, int] | None) -> int | None:
    """Records up to the end of the partition; None while librdkafka has not fetched from it yet.

    librdkafka's own `consumer_lag` is of no use here: it never sees transactional commits.
    """
    if seen is None:
        return None
    start = first_unfinished if first_unfinished is not None else seen["next_offset"]
    return max(0, seen["ls_offset"] - start) if start >= 0 and seen["ls_offset"] >= 0 else None
