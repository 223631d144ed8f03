"""What is counted and measured on the way of an event, for Prometheus; docs/runbooks/realtime-metrics.md says what
each value means and when to worry.

Labels are few and fixed: a name of a consumer group, a transport, an outcome, a reason; never a user, a channel or an
event. The objects belong to the process: with two hubs in one process (tests) both are in the same numbers.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

# relay: outbox -> log
RELAY_LAG = Histogram(
    "matchday_relay_lag_seconds", "From an event's happening to its place in the log, by batch: its oldest event.",
    buckets=LATENCY_S,
)  # fmt: skip
OUTBOX_WAITING = Gauge("matchday_outbox_waiting_events", "Committed events that are not in the log yet.")
RELAY_LEADING = Gauge("matchday_relay_leading", "1 while this process moves events to the log, 0 while it stands by.")

# hub: log -> this process
NODE_LAG = Gauge("matchday_node_lag_events", "Events in the log that this process has not read yet.")
NODE_LAG_S = Histogram(
    "matchday_node_lag_seconds", "From an event's happening to its being read from the log here.", buckets=LATENCY_S
)
GAPS_FOUND = Counter("matchday_node_gaps_found", "Looks at the log, after a hole in the wake-ups, that found events.")
GAPS_FILLED = Counter("matchday_node_gaps_filled", "Holes whose events were read from the log and handed on.")
RESUBSCRIBES = Counter("matchday_wakeup_resubscribes", "Subscriptions made anew: messages may have been missed.")
LOG_READS = Counter("matchday_log_reads", "Reads of the log from PostgreSQL.", ["source"])  # follow, resume

# connections
CONNECTIONS = Gauge("matchday_connections", "Open streams.", ["transport"])
DELIVERIES = Counter("matchday_deliveries", "Events handed to a connection.", ["transport"])
WRITES = Counter("matchday_writes", "Writes to a client's socket.", ["transport"])
QUEUE_BYTES = Gauge("matchday_queue_bytes", "Bytes that wait in this process for clients that read slowly.")
EVICTIONS = Counter("matchday_evictions", "Streams that this process ended against the client's wish.", ["reason"])
REFRESHES = Counter("matchday_token_refreshes", "Tokens renewed on an open stream.", ["outcome"])
# outcome: recovered, new, invalid, epoch, expired, too_many
RECOVERIES = Counter("matchday_recoveries", "Streams opened, by what became of the cursor they came with.", ["outcome"])
REPLAYED = Histogram(
    "matchday_replayed_events", "Events replayed to one recovered stream.", buckets=(0, 1, 3, 10, 30, 100, 300, 1000)
)

# consumers and retention
CONSUMER_LAG = Gauge("matchday_consumer_lag_events", "Events that a consumer group has not passed yet.", ["group"])
DEAD_LETTERS = Counter("matchday_dead_letters", "Events that a consumer group gave up on.", ["group"])
RETENTION_CUT = Counter("matchday_retention_cut_events", "Events dropped from the log because their days were over.")
RETENTION_HELD = Gauge("matchday_retention_held_days", "Days that stay because a consumer group is behind.")
