-- The log in days, so that it can be cut; what each group of consumers has handled; how often what happened.
-- depends: 0009_roles
-- The functions, and the rows of the log as it was, come with 0010_event_log_days_functions.py.

ALTER TABLE event_log RENAME TO event_log_before;
ALTER TABLE event_log_before RENAME CONSTRAINT event_log_pkey TO event_log_before_pkey;
ALTER TABLE event_log_before RENAME CONSTRAINT event_log_event_id_key TO event_log_before_event_id_key;

-- One partition for each UTC day on which events were moved, by whoever moved them; with the position it never falls.
-- A key of a partitioned table holds within a partition only: that no position stands in two days, and that none is
-- left out, is for event_log_days and the trigger of guard_event_log_v1.
CREATE TABLE event_log (
    shard       smallint    NOT NULL,
    day         date        NOT NULL,
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
    CONSTRAINT event_log_pkey PRIMARY KEY (shard, position, day),
    CONSTRAINT event_log_event_id_key UNIQUE (event_id, day)
) PARTITION BY RANGE (day);

-- Where each day begins. Readers find the partitions of a range of positions here, and leave the others alone.
CREATE TABLE event_log_days (
    shard          smallint NOT NULL,
    day            date     NOT NULL,
    first_position bigint   NOT NULL,           -- of the day's first event, there or to come
    CONSTRAINT event_log_days_pkey PRIMARY KEY (shard, day)
);

CREATE INDEX event_log_days_position_idx ON event_log_days (shard, first_position, day);

-- Of the newest event. Days follow a clock, and clocks go back; the log does not.
ALTER TABLE event_log_shards ADD COLUMN day date NOT NULL DEFAULT '-infinity';

-- What a group has handled: a group that is sent back reads again and does nothing twice.
CREATE TABLE consumer_inbox (
    consumer_group text        COLLATE "C" NOT NULL,
    event_id       text        COLLATE "C" NOT NULL,
    handled_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT consumer_inbox_pkey PRIMARY KEY (consumer_group, event_id)
);

CREATE INDEX consumer_inbox_handled_at_idx ON consumer_inbox (handled_at);

-- How often what happened on a day in India; kept by the group "analytics".
CREATE TABLE event_counts (
    day    date   NOT NULL,
    type   text   NOT NULL,
    events bigint NOT NULL,
    CONSTRAINT event_counts_pkey PRIMARY KEY (day, type)
);
