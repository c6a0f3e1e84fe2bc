"""Names of the headers that retries and dead letters carry. Values are UTF-8 text, but for the untouched original's."""

from collections.abc import Iterable

OURS = ("x-dlq-", "x-retry-", "x-redrive-")
"""What our names begin with."""

# --- where the upload came from: always the input topic, however often it was tried ---
ORIG_TOPIC = "x-dlq-orig-topic"
ORIG_PARTITION = "x-dlq-orig-partition"
ORIG_OFFSET = "x-dlq-orig-offset"
ORIG_TIMESTAMP = "x-dlq-orig-timestamp"
"""Milliseconds of Unix time; empty for a record without."""

# --- what went wrong, and who says so ---
GROUP = "x-dlq-group"
STAGE = "x-dlq-stage"
REASON = "x-dlq-error-class"
MESSAGE = "x-dlq-error-message"

# --- how often ---
ATTEMPT = "x-retry-attempt"
"""In a retry: which try it is to be, from 2. In a dead letter: which try it was, from 1."""
NOT_BEFORE = "x-retry-not-before-ms"
FIRST_FAILURE = "x-retry-first-failure-ms"
UPLOAD = "x-retry-upload"
"""Which of the record's uploads, from 0; absent: all of them, as none could be read."""
REDRIVES = "x-redrive-count"
DEAD_LETTER = "x-redrive-dead-letter"
"""Id of the dead letter that was redriven last."""

# --- in a dead letter, whose own value is an event: what the record was ---
ORIG_VALUE = "x-dlq-orig-value"
ORIG_HEADER_PREFIX = "x-dlq-orig-header-"
"""Before the name of each header that came with the record."""


def foreign(headers: Iterable[tuple[str, bytes | None]]) -> list[tuple[str, bytes | None]]:
    """Those that came with the upload; whoever uploads must not tell our history."""
    return [(name, value) for name, value in headers if not name.startswith(OURS)]


def number(text: str | None) -> int | None:
    """A header's number; None for what is none, or none that a broker would give."""
    return int(text) if text and len(text) < 20 and text.isascii() and text.isdecimal() else None
