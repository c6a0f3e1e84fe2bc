"""Bugs planted into the product from outside, which the drill must catch."""

from collections.abc import Callable, Collection
from typing import Any, Literal, get_args

from confluent_kafka import Producer

from consumer.kafka import delivery, transactions
from consumer.kafka.client import client_config
from consumer.kafka.ledger import Ledger
from consumer.kafka.offsets import Claim, OffsetTracker
from consumer.kafka.records import Record
from consumer.settings import KafkaSettings

Plant = Literal["offsets not sent", "epoch check skipped", "published outside", "progress not restored"]
PLANTS: tuple[Plant, ...] = get_args(Plant)


def plant(bug: Plant, settings: KafkaSettings) -> None:
    """Plants the bug in this process."""
    _PLANT[bug](settings)


def _send_no_offsets(settings: KafkaSettings) -> None:
    """Neither are offsets committed, nor are members fenced that the group has given up."""

    class Forgetful(Producer):  # type: ignore[misc]
        def send_offsets_to_transaction(self, *arguments: Any) -> None:
            return

    _replace(transactions, "Producer", Forgetful)


def _skip_epoch_check(settings: KafkaSettings) -> None:
    """Results count even when their partition was taken away meanwhile."""
    stand = OffsetTracker.stand

    def stand_for_all(self: OffsetTracker, claims: Collection[Claim], finishing: Collection[Claim]) -> Any:
        return set(claims), stand(self, claims, finishing)[1]

    _replace(OffsetTracker, "stand", stand_for_all)


def _publish_outside(settings: KafkaSettings) -> None:
    """Tags are there for all to see before the transaction is committed."""
    outside = Producer(client_config(settings))
    send = delivery.send

    def send_some_outside(producer: Any, record: Record, answered: Callable[..., None] | None) -> None:
        send(outside if record.topic == settings.tags_topic else producer, record, answered)
        outside.flush(1.0)

    _replace(transactions, "send", send_some_outside)


def _restore_nothing(settings: KafkaSettings) -> None:
    """A partition's new owner knows nothing of what was reached."""
    make = Ledger.__init__

    def make_empty(self: Ledger, records: object = None, *arguments: Any, **named: Any) -> None:
        make(self, None, *arguments, **named)

    _replace(Ledger, "__init__", make_empty)


def _replace(owner: Any, name: str, part: object) -> None:
    """A part that was renamed is an error, and no bug planted."""
    assert hasattr(owner, name)
    setattr(owner, name, part)


_PLANT: dict[Plant, Callable[[KafkaSettings], None]] = {
    "offsets not sent": _send_no_offsets,
    "epoch check skipped": _skip_epoch_check,
    "published outside": _publish_outside,
    "progress not restored": _restore_nothing,
}
