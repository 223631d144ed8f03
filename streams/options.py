"""Every knob of streams/, with the values that docs and tests reason about; nothing else here reads configuration."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """Times are seconds (`_s`) and milliseconds (`_ms`), sizes are bytes (`_bytes`)."""

    # relay: outbox -> log
    relay_poll_s: float = 0.075
    relay_batch: int = 500
    relay_takeover_s: float = 0.5  # how often a stand-by asks for the lock
    relay_lease_s: float = 4.0  # a leader silent for so long loses its session, and with it the lock

    # hub: log -> connections of this process
    hub_poll_s: float = 1.0  # the latency that a lost wake-up costs at the most
    hub_gather_s: float = 0.002  # between two looks at the log: what is committed meanwhile goes out in one write
    hub_page: int = 200
    hub_read_s: float = 2.0  # for a look at the log: a PostgreSQL that fell silent makes events late, not a node deaf
    hub_ring: int = 4096  # newest events kept for reconnects

    # the Redis subscription
    heartbeat_s: float = 1.0
    heartbeats_missed: int = 3

    # connections of this process
    max_streams: int = 20_000

    # one connection
    queue_bytes: int = MIB
    write_deadline_s: float = 10.0
    close_grace_s: float = 2.0
    max_channels: int = 128
    ping_s: float = 20.0
    max_lifetime_s: float = 600.0
    lifetime_jitter: float = 0.1  # share of max_lifetime_s, either way
    reconnect_min_ms: int = 200
    reconnect_max_ms: int = 5000
    revocation_check_s: float = 1.0  # of sessions, and of rights that can be withdrawn
    max_streams_per_user: int = 20  # in one process

    # presence
    presence_tick_s: float = 1.0  # the least time between two messages about one channel
    presence_heartbeat_s: float = 3.0  # everything is written again, and what is only counted is read
    presence_ttl_s: float = 10.0  # how long the people of a node that is no more are still there
    token_warning: float = 0.8  # share of what is left of a token, after which the client is told to renew it
    token_grace_s: float = 25.0  # that a WebSocket is given after its token's end

    # WebSocket
    allowed_origins: frozenset[str] = frozenset()  # of browsers; clients without an Origin header are not browsers
    connect_timeout_s: float = 10.0
    max_message_bytes: int = 64 * KIB
    message_limit: int = 30
    message_window_s: float = 10.0

    # long poll
    poll_gather_s: float = 0.01  # after the first event: what commits together comes in one answer

    # resume
    replay_events: int = 300
    replay_bytes: int = MIB
    replay_window: int = 50_000  # positions that a cursor may lie behind

    ticket_ttl_s: int = 30
    drain_s: float = 5.0  # over which a stopping process says good-bye to its connections
    source: str = "/matchday"  # CloudEvents `source`

    # the log
    log_keep_days: int = 7  # whole days, besides the one that is not over

    # consumers
    consumer_poll_s: float = 1.0
    consumer_batch: int = 100  # positions that one transaction of a group passes
    consumer_tries: int = 12  # some five minutes with the waits below
    consumer_backoff_s: float = 0.5  # doubled by each failure
    consumer_backoff_max_s: float = 60.0
