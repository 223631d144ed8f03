-- name: append_outbox!
-- An event, in the transaction of the change that it tells.
INSERT INTO outbox (event_id, type, subject, channels, data, happened_at, traceparent)
VALUES (:event_id, :type, :subject, :channels, :data, :happened_at, :traceparent)

-- name: try_lead$
-- Session-level lock: it is gone when the leader's session is, however that ended.
SELECT pg_try_advisory_lock(:lock_class::integer, :shard::integer)

-- name: guard_session!
-- Have the server end the session of a leader that hangs or vanished, so that its lock is free again.
SELECT set_config('idle_session_timeout', :lease_ms, false),
       set_config('idle_in_transaction_session_timeout', :lease_ms, false),
       set_config('tcp_keepalives_idle', '1', false),
       set_config('tcp_keepalives_interval', '1', false),
       set_config('tcp_keepalives_count', '3', false)

-- name: outbox_waiting$
-- Whether there is anything to move; costs no row lock and no write.
SELECT EXISTS (SELECT FROM outbox WHERE shard = :shard)

-- name: lock_head^
-- The end of a shard, held until commit: one appender at a time, whoever believes to be the leader.
SELECT head, sequence FROM event_log_shards WHERE shard = :shard FOR UPDATE

-- name: move_batch^
-- Move the oldest committed rows to the log. Rows of a transaction that commits later with a lower id are not
-- visible now and are taken by a later batch: nothing is paged by id.
WITH picked AS MATERIALIZED (
    SELECT id FROM outbox WHERE shard = :shard ORDER BY id LIMIT :batch FOR UPDATE SKIP LOCKED
), taken AS (
    DELETE FROM outbox USING picked WHERE outbox.shard = :shard AND outbox.id = picked.id
    RETURNING outbox.id, event_id, type, subject, channels, data, happened_at, traceparent
), logged AS (
    INSERT INTO event_log (shard, position, event_id, type, subject, channels, data, happened_at, sequence, traceparent)
    SELECT :shard, :head::bigint + row_number() OVER (ORDER BY id), event_id, type, subject, channels, data,
           happened_at,
           GREATEST(:sequence::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
               + row_number() OVER (ORDER BY id),
           traceparent
    FROM taken
    RETURNING position, sequence
), advanced AS (
    UPDATE event_log_shards
    SET head = (SELECT max(position) FROM logged), sequence = (SELECT max(sequence) FROM logged)
    WHERE shard = :shard AND EXISTS (SELECT FROM logged)
)
SELECT count(*) AS moved, min(position) AS first, max(position) AS last FROM logged

-- name: log_head^
-- The log's lifetime and the end of a shard.
SELECT e.epoch, s.head FROM event_log_epoch e CROSS JOIN event_log_shards s WHERE s.shard = :shard

-- name: renew_epoch$
-- Begin a new lifetime of the log.
UPDATE event_log_epoch SET epoch = gen_random_uuid(), began_at = now() RETURNING epoch

-- name: follow_log*
-- The log's lifetime and end together with the next page, in one snapshot; one row without an event when there is
-- nothing new.
SELECT e.epoch, s.head, l.shard, l.position, l.event_id, l.type, l.subject, l.channels, l.data, l.happened_at,
       l.sequence, l.traceparent
FROM event_log_epoch e
CROSS JOIN event_log_shards s
LEFT JOIN event_log l ON l.shard = s.shard AND l.position > :after
WHERE s.shard = :shard
ORDER BY l.position
LIMIT :page

-- name: read_log*
-- Events of some channels in a range of positions, oldest first.
SELECT shard, position, event_id, type, subject, channels, data, happened_at, sequence, traceparent
FROM event_log
WHERE shard = :shard AND position > :after AND position <= :upto AND channels && :channels
ORDER BY position
LIMIT :page

-- name: log_floor$
-- The oldest position still kept; NULL for an empty log.
SELECT min(position) FROM event_log WHERE shard = :shard

-- name: add_consumer!
-- A group reads from the beginning of the log the first time it is seen.
INSERT INTO consumer_positions (consumer_group, shard) VALUES (:consumer_group, :shard) ON CONFLICT DO NOTHING

-- name: claim_position^
-- A group's turn at its next event; None while another process has it or while a failed event waits.
SELECT position, attempts
FROM consumer_positions
WHERE consumer_group = :consumer_group AND shard = :shard AND (retry_at IS NULL OR retry_at <= now())
FOR UPDATE SKIP LOCKED

-- name: next_event^
-- The first event of some types after a position and up to another.
SELECT shard, position, event_id, type, subject, channels, data, happened_at, sequence, traceparent
FROM event_log
WHERE shard = :shard AND position > :after AND position <= :upto AND type = ANY (:types)
ORDER BY position
LIMIT 1

-- name: advance_position!
-- Everything up to a position is done.
UPDATE consumer_positions SET position = :position, attempts = 0, retry_at = NULL
WHERE consumer_group = :consumer_group AND shard = :shard

-- name: note_failure!
-- One more failure at the event after a group's position, and when it is tried again.
UPDATE consumer_positions SET attempts = :attempts, retry_at = now() + :delay_s::double precision * interval '1 second'
WHERE consumer_group = :consumer_group AND shard = :shard

-- name: record_dead_letter!
-- An event that a group gave up on.
INSERT INTO dead_letters (id, consumer_group, shard, position, event_id, type, subject, channels, data, happened_at,
                          sequence, traceparent, error, attempts)
VALUES (:id, :consumer_group, :shard, :position, :event_id, :type, :subject, :channels, :data, :happened_at,
        :sequence, :traceparent, :error, :attempts)
ON CONFLICT ON CONSTRAINT dead_letters_event_key DO NOTHING

-- name: list_dead_letters*
-- A group's events that wait to be replayed, oldest first.
SELECT id, consumer_group, shard, position, event_id, type, subject, channels, data, happened_at, sequence,
       traceparent, error, attempts, failed_at
FROM dead_letters
WHERE consumer_group = :consumer_group AND replayed_at IS NULL AND id > :after
ORDER BY id
LIMIT :page

-- name: claim_dead_letter^
-- One event that waits to be replayed, for this transaction alone.
SELECT id, consumer_group, shard, position, event_id, type, subject, channels, data, happened_at, sequence,
       traceparent, error, attempts, failed_at
FROM dead_letters
WHERE id = :id AND replayed_at IS NULL
FOR UPDATE

-- name: mark_replayed!
-- The event's effect committed with this mark.
UPDATE dead_letters SET replayed_at = now() WHERE id = :id
