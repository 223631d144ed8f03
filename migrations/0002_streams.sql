-- Facts in motion: the outbox, the log that every reader follows, and where each reader stands.
-- depends: 0001_foundation

-- Rows wait here from the commit of their business transaction until the relay moves them; usually milliseconds.
CREATE TABLE outbox (
    shard       smallint    NOT NULL DEFAULT 0,
    id          bigint      GENERATED ALWAYS AS IDENTITY,   -- drawn before commit: never a cursor
    event_id    text        COLLATE "C" NOT NULL,
    type        text        NOT NULL,
    subject     text        COLLATE "C" NOT NULL,
    channels    text[]      NOT NULL,
    data        jsonb       NOT NULL,
    happened_at timestamptz NOT NULL,
    traceparent text,                                       -- W3C Trace Context of the request that caused it
    CONSTRAINT outbox_pkey PRIMARY KEY (shard, id),
    CONSTRAINT outbox_event_id_key UNIQUE (event_id)
);

-- Every row is deleted soon: vacuum by count, not by share of a table that is nearly always empty.
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- One lifetime of the log. Restoring a backup or cutting the log begins a new one; cursors of the old one end.
CREATE TABLE event_log_epoch (
    only_row boolean     NOT NULL DEFAULT true,
    epoch    uuid        NOT NULL DEFAULT gen_random_uuid(),
    began_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT event_log_epoch_pkey PRIMARY KEY (only_row),
    CONSTRAINT event_log_epoch_only_row CHECK (only_row)
);

INSERT INTO event_log_epoch DEFAULT VALUES;

-- The end of each shard. Whoever appends holds the row until commit, so positions commit in order and without gaps.
CREATE TABLE event_log_shards (
    shard    smallint NOT NULL,
    head     bigint   NOT NULL DEFAULT 0,       -- position of the newest event, 0 for none
    sequence bigint   NOT NULL DEFAULT 0,       -- of the newest event
    CONSTRAINT event_log_shards_pkey PRIMARY KEY (shard)
);

INSERT INTO event_log_shards (shard) VALUES (0);

CREATE TABLE event_log (
    shard       smallint    NOT NULL,
    position    bigint      NOT NULL,           -- contiguous in a shard, in commit order
    event_id    text        COLLATE "C" NOT NULL,
    type        text        NOT NULL,
    subject     text        COLLATE "C" NOT NULL,
    channels    text[]      NOT NULL,
    data        jsonb       NOT NULL,
    happened_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    sequence    bigint      NOT NULL,           -- microseconds, strictly rising: orders events, counts nothing
    traceparent text,
    CONSTRAINT event_log_pkey PRIMARY KEY (shard, position),
    CONSTRAINT event_log_event_id_key UNIQUE (event_id)
);

-- Where a group of consumers stands, and the failures at the event after that position.
CREATE TABLE consumer_positions (
    consumer_group text        COLLATE "C" NOT NULL,
    shard          smallint    NOT NULL,
    position       bigint      NOT NULL DEFAULT 0,
    attempts       integer     NOT NULL DEFAULT 0,
    retry_at       timestamptz,
    CONSTRAINT consumer_positions_pkey PRIMARY KEY (consumer_group, shard),
    CONSTRAINT consumer_positions_retry CHECK ((attempts = 0) = (retry_at IS NULL))
);

-- Events that a group gave up on, whole, so that they can be replayed after the log was cut.
CREATE TABLE dead_letters (
    id             text        COLLATE "C" NOT NULL,
    consumer_group text        COLLATE "C" NOT NULL,
    shard          smallint    NOT NULL,
    position       bigint      NOT NULL,
    event_id       text        COLLATE "C" NOT NULL,
    type           text        NOT NULL,
    subject        text        COLLATE "C" NOT NULL,
    channels       text[]      NOT NULL,
    data           jsonb       NOT NULL,
    happened_at    timestamptz NOT NULL,
    sequence       bigint      NOT NULL,
    traceparent    text,
    error          text        NOT NULL,
    attempts       integer     NOT NULL,
    failed_at      timestamptz NOT NULL DEFAULT now(),
    replayed_at    timestamptz,
    CONSTRAINT dead_letters_pkey PRIMARY KEY (id),
    CONSTRAINT dead_letters_event_key UNIQUE (consumer_group, event_id)
);

CREATE INDEX dead_letters_waiting_idx ON dead_letters (consumer_group, id) WHERE replayed_at IS NULL;
