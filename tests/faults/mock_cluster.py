"""librdkafka's mock cluster, through its C API: brokers in this process that fail and tarry on demand.

It knows neither `read_committed` nor fencing, and keeps no transactional offsets: it shows how a client takes errors,
and proves nothing about what is stored. See rdkafka_mock.h of librdkafka.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

import confluent_kafka

NUM_BROKERS = 3


class Api(IntEnum):
    """Requests of the Kafka protocol, by their keys."""

    PRODUCE = 0
    FIND_COORDINATOR = 10
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class MockCluster:
    """A running cluster. Errors are answered to the next requests of their kind, one each."""

    def __init__(self, library: ctypes.CDLL, handle: int) -> None:
        self._library = library
        self._handle = ctypes.c_void_p(handle)
        library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        self.bootstrap: str = library.rd_kafka_mock_cluster_bootstraps(self._handle).decode()

    def create_topic(self, name: str) -> None:
        self._library.rd_kafka_mock_topic_create(self._handle, name.encode(), 1, 1)

    def fail(self, api: Api, errors: Sequence[int]) -> None:
        codes = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._handle, ctypes.c_int16(api), ctypes.c_size_t(len(errors)), codes
        )

    def tarry(self, for_ms: int) -> None:
        """Every answer of every broker comes so late, until that is changed."""
        for broker in range(1, NUM_BROKERS + 1):
            self._library.rd_kafka_mock_broker_set_rtt(self._handle, broker, for_ms)

    def go_down(self) -> None:
        for broker in range(1, NUM_BROKERS + 1):
            self._library.rd_kafka_mock_broker_set_down(self._handle, broker)

    def come_up(self) -> None:
        for broker in range(1, NUM_BROKERS + 1):
            self._library.rd_kafka_mock_broker_set_up(self._handle, broker)


def librdkafka() -> Path | None:
    """The library inside the installed wheel, where there is one."""
    wheel = Path(confluent_kafka.__file__).parents[1]
    return next(iter(sorted(wheel.glob("confluent_kafka.libs/librdkafka-*.so*"))), None)


@contextmanager
def mock_cluster(path: Path) -> Iterator[MockCluster]:
    """A cluster in the library at `path`, which is the one that the clients use."""
    library = ctypes.CDLL(str(path))
    library.rd_kafka_conf_new.restype = ctypes.c_void_p
    library.rd_kafka_new.restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
    message = ctypes.create_string_buffer(512)
    quiet = ctypes.c_void_p(library.rd_kafka_conf_new())  # this client has no brokers, and need not say so
    library.rd_kafka_conf_set(quiet, b"log_level", b"0", message, ctypes.c_size_t(len(message)))
    producer = library.rd_kafka_new(0, quiet, message, ctypes.c_size_t(len(message)))
    assert producer, message.value
    cluster = library.rd_kafka_mock_cluster_new(ctypes.c_void_p(producer), NUM_BROKERS)
    try:
        yield MockCluster(library, cluster)
    finally:
        library.rd_kafka_mock_cluster_destroy(ctypes.c_void_p(cluster))
        library.rd_kafka_destroy(ctypes.c_void_p(producer))
