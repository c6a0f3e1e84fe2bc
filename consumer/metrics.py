"""Every metric, its kind and meaning. Labels have few values: never a video id, a URL or a message.

Units are Prometheus' base units. What came in is counted before the work, what went out after it is stored.
"""

from prometheus_client import Counter, Gauge, Histogram

_SHORT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LONG_S = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)

# --- what came in, and what became of it: every upload ends in exactly one outcome ---
records_received = Counter("tagstream_records_received", "Input records polled.")
uploads_received = Counter("tagstream_uploads_received", "Uploads found in the input records.", ["format"])
uploads_finished = Counter(
    "tagstream_uploads_finished",
    "By outcome: published, dead_lettered, retrying, duplicate, superseded, settled; abandoned: records given back.",
    ["outcome"],
)
uploads_in_flight = Gauge("tagstream_uploads_in_flight", "Uploads being worked on.")
dead_letters = Counter("tagstream_dead_letters", "Dead letters written, by stage and reason code.", ["stage", "reason"])

retries = Counter(
    "tagstream_retries", "Uploads sent to the retry topic, by stage and reason code.", ["stage", "reason"]
)
resumed = Counter("tagstream_resumed", "Uploads whose work went on where it had stopped.")
progress_unreadable = Counter(
    "tagstream_progress_unreadable", "Progress that could not be used, by why: the upload starts over.", ["why"]
)

# --- what went out ---
events_published = Counter("tagstream_events_published", "Events stored by the broker.", ["type"])
windows_dropped = Counter(
    "tagstream_windows_dropped", "Windows whose text was dropped as not spoken, by guard.", ["reason"]
)
quotes_dropped = Counter("tagstream_quotes_dropped", "Quotes that did not stand in the text, and were not published.")

# --- media ---
media_seconds = Counter("tagstream_media_seconds", "Seconds of media read, by basis of the text.", ["basis"])
media_damaged = Counter("tagstream_media_damaged", "Media that could be read only in part.", ["kind"])
sandbox_kills = Counter("tagstream_sandbox_kills", "Decoder processes that were ended or died.", ["reason"])
fetched_bytes = Counter("tagstream_fetched_bytes", "Bytes read from the media's sources.", ["scheme"])

# --- work ---
stage_seconds = Histogram(
    "tagstream_stage_seconds", "Time at work in a stage, a batch or a call.", ["stage"], buckets=_SHORT_S
)
queue_seconds = Histogram("tagstream_queue_seconds", "Time an item waited for its batch.", ["stage"], buckets=_SHORT_S)
batch_items = Histogram(
    "tagstream_batch_items",
    "Items in a batch, by why it left: full, budget, waited, idle.",
    ["stage", "trigger"],
    buckets=(1, 2, 4, 8, 16, 32, 64),
)
first_tag_seconds = Histogram(
    "tagstream_first_tag_seconds", "From taking up an upload to its first tags.", buckets=_SHORT_S
)
final_seconds = Histogram("tagstream_final_seconds", "From taking up an upload to its final event.", buckets=_LONG_S)

# --- Kafka ---
lag = Gauge(
    "tagstream_lag_records",
    "Records from the first unfinished one to the end of the partition.",
    ["partition"],
)
oldest_unfinished_seconds = Gauge(
    "tagstream_oldest_unfinished_seconds", "Age of the oldest record in work.", ["partition"]
)
offset_gap = Gauge(
    "tagstream_offset_gap_records",
    "Records from the first unfinished one to the last received: a crash now would repeat them.",
    ["partition"],
)
partitions_assigned = Gauge("tagstream_partitions_assigned", "Input partitions of this consumer.")
partitions_paused = Gauge("tagstream_partitions_paused", "Input partitions paused because the house is full.")
rebalances = Counter("tagstream_rebalances", "Assignment changes.", ["event"])
late_results_dropped = Counter(
    "tagstream_late_results_dropped", "Results that came after their partition was taken away."
)
commits = Counter("tagstream_commits", "Offset commits at least once, by result.", ["result"])
transaction_seconds = Histogram("tagstream_transaction_seconds", "Time of a stored transaction.", buckets=_SHORT_S)
transaction_failures = Counter(
    "tagstream_transaction_failures", "Transactions that failed and were tried again, by error.", ["code"]
)
producers_replaced = Counter(
    "tagstream_producers_replaced", "Transactional producers replaced, a commit being in doubt.", ["reason"]
)
restore_seconds = Histogram(
    "tagstream_restore_seconds", "Time from an assignment until its progress was read.", buckets=_SHORT_S
)
retries_waiting = Gauge("tagstream_retries_waiting", "Retries held until their time.")
kafka_errors = Counter("tagstream_kafka_errors", "Errors reported by the Kafka client.", ["code"])
poll_turn_timestamp = Gauge("tagstream_poll_loop_last_turn_timestamp_seconds", "Unix time of the last poll turn.")
