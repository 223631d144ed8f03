CREATE TABLE event_log_before (
    shard       smallint    NOT NULL,
    position    bigint      NOT NULL,
    event_id    text        COLLATE "C" NOT NULL,
    type        text        NOT NULL,
    subject     text        COLLATE "C" NOT NULL,
    channels    text[]      NOT NULL,
    data        jsonb       NOT NULL,
    happened_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    sequence    bigint      NOT NULL,
    traceparent text
);
INSERT INTO event_log_before
SELECT shard, position, event_id, type, subject, channels, data, happened_at, recorded_at, sequence, traceparent
FROM event_log ORDER BY shard, position;
DROP TABLE event_log;
ALTER TABLE event_log_before RENAME TO event_log;
ALTER TABLE event_log ADD CONSTRAINT event_log_pkey PRIMARY KEY (shard, position),
    ADD CONSTRAINT event_log_event_id_key UNIQUE (event_id);
DROP TABLE event_log_days;
DROP TABLE consumer_inbox;
DROP TABLE event_counts;
ALTER TABLE event_log_shards DROP COLUMN day;
