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

-- name: count_waiting$
-- How much there is to move, counted no further than a limit.
SELECT count(*) FROM (SELECT FROM outbox WHERE shard = :shard LIMIT :upto) waiting

-- name: lock_head^
-- The end of a shard, held until commit: one appender at a time, whoever believes to be the leader. With it the day
-- that events appended now belong to, which never goes back, and whether that day has begun.
SELECT s.head, s.sequence, GREATEST(s.day, :today) AS day,
       EXISTS (SELECT FROM event_log_days d WHERE d.shard = s.shard AND d.day = GREATEST(s.day, :today)) AS has_begun
FROM event_log_shards s
WHERE s.shard = :shard
FOR UPDATE OF s

-- name: ensure_days$
-- Make the partitions of days, as far as they are missing; how many were made.
SELECT ensure_event_days_v1(:first, :days)

-- name: begin_day!
-- A day begins with the next event of its shard, whose end the caller holds.
INSERT INTO event_log_days (shard, day, first_position)
SELECT shard, :day, head + 1 FROM event_log_shards WHERE shard = :shard
ON CONFLICT ON CONSTRAINT event_log_days_pkey DO NOTHING

-- name: move_batch^
-- Move the oldest committed rows to the log. Rows of a transaction that commits later with a lower id are not
-- visible now and are taken by a later batch: nothing is paged by id.
WITH picked AS MATERIALIZED (
    SELECT id FROM outbox WHERE shard = :shard ORDER BY id LIMIT :batch FOR UPDATE SKIP LOCKED
), taken AS (
    DELETE FROM outbox USING picked WHERE outbox.shard = :shard AND outbox.id = picked.id
    RETURNING outbox.id, event_id, type, subject, channels, data, happened_at, traceparent
), logged AS (
    INSERT INTO event_log (shard, day, position, event_id, type, subject, channels, data, happened_at, sequence,
                           traceparent)
    SELECT :shard, :day::date, :head::bigint + row_number() OVER (ORDER BY id), event_id, type, subject, channels, data,
           happened_at,
           GREATEST(:sequence::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
               + row_number() OVER (ORDER BY id),
           traceparent
    FROM taken
    RETURNING position, sequence, happened_at
), advanced AS (
    UPDATE event_log_shards
    SET head = (SELECT max(position) FROM logged), sequence = (SELECT max(sequence) FROM logged), day = :day
    WHERE shard = :shard AND EXISTS (SELECT FROM logged)
)
SELECT count(*) AS moved, min(position) AS first, max(position) AS last,
       extract(epoch FROM clock_timestamp() - min(happened_at))::double precision AS lag_s
FROM logged

-- name: log_head^
-- The log's lifetime and the end of a shard.
SELECT e.epoch, s.head FROM event_log_epoch e CROSS JOIN event_log_shards s WHERE s.shard = :shard

-- name: renew_epoch$
-- Begin a new lifetime of the log.
UPDATE event_log_epoch SET epoch = gen_random_uuid(), began_at = now() RETURNING epoch

-- name: follow_log*
-- The log's lifetime and end together with the next page, in one snapshot; one row without an event when there is
-- nothing new. Positions are contiguous, so a page ends at the latest `page` positions on: the sub-selects name the
-- days between, and no other partition is opened.
SELECT e.epoch, s.head, l.shard, l.position, l.event_id, l.type, l.subject, l.channels, l.data, l.happened_at,
       l.sequence, l.traceparent
FROM event_log_epoch e
CROSS JOIN event_log_shards s
LEFT JOIN event_log l
       ON l.shard = :shard AND l.position > :after AND l.position <= :after::bigint + :page::bigint
      AND l.day >= (SELECT coalesce(max(day), '-infinity') FROM event_log_days
                    WHERE shard = :shard AND first_position <= :after::bigint + 1)
      AND l.day <= (SELECT max(day) FROM event_log_days
                    WHERE shard = :shard AND first_position <= :after::bigint + :page::bigint)
WHERE s.shard = :shard
ORDER BY l.position

-- name: read_log*
-- Events of some channels in a range of positions, oldest first.
SELECT shard, position, event_id, type, subject, channels, data, happened_at, sequence, traceparent
FROM event_log
WHERE shard = :shard AND position > :after AND position <= :upto AND channels && :channels
  AND day >= (SELECT coalesce(max(day), '-infinity') FROM event_log_days
              WHERE shard = :shard AND first_position <= :after::bigint + 1)
  AND day <= (SELECT max(day) FROM event_log_days WHERE shard = :shard AND first_position <= :upto)
ORDER BY position
LIMIT :page

-- name: log_floor$
-- The oldest position still kept; the next one to be given when nothing is.
SELECT coalesce((SELECT min(position) FROM event_log WHERE shard = s.shard), s.head + 1)
FROM event_log_shards s
WHERE s.shard = :shard

-- name: list_days*
-- The partitions of the log, oldest first, with the events that a shard has in each; NULL for a day that has not begun.
SELECT p.day, d.first_position,
       (SELECT min(later.first_position) FROM event_log_days later WHERE later.shard = d.shard AND later.day > d.day)
           AS next_position
FROM (SELECT to_date(right(c.relname, 10), 'YYYY_MM_DD') AS day
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
      WHERE i.inhparent = 'event_log'::regclass) p
LEFT JOIN event_log_days d ON d.day = p.day AND d.shard = :shard
ORDER BY p.day

-- name: drop_day$
-- Drop the oldest day; how many events it had, NULL while a group of consumers has not passed it.
SELECT drop_event_day_v1(:day)

-- name: position_at$
-- The position before the first event that was recorded at an instant or later.
SELECT coalesce(min(position) - 1, (SELECT head FROM event_log_shards WHERE shard = :shard))
FROM event_log
WHERE shard = :shard AND recorded_at >= :instant AND day >= (:instant::timestamptz AT TIME ZONE 'UTC')::date - 1

-- name: add_consumer!
-- A group reads from the beginning of the log the first time it is seen.
INSERT INTO consumer_positions (consumer_group, shard) VALUES (:consumer_group, :shard) ON CONFLICT DO NOTHING

-- name: claim_position^
-- A group's turn at its next event; None while another process has it or while a failed event waits.
SELECT position, attempts
FROM consumer_positions
WHERE consumer_group = :consumer_group AND shard = :shard AND (retry_at IS NULL OR retry_at <= now())
FOR UPDATE SKIP LOCKED

-- name: next_events*
-- Of the next positions those with events of some types, or of all, that a group has not handled. They count as handled
-- from here on, unless the transaction is rolled back: no other one of the group may see them.
WITH due AS MATERIALIZED (
    SELECT shard, position, event_id, type, subject, channels, data, happened_at, sequence, traceparent
    FROM event_log
    WHERE shard = :shard AND position > :after AND position <= :upto
      AND (:types::text[] IS NULL OR type = ANY (:types))
      AND day >= (SELECT coalesce(max(day), '-infinity') FROM event_log_days
                  WHERE shard = :shard AND first_position <= :after::bigint + 1)
      AND day <= (SELECT max(day) FROM event_log_days WHERE shard = :shard AND first_position <= :upto)
), taken AS (
    INSERT INTO consumer_inbox (consumer_group, event_id)
    SELECT :consumer_group, event_id FROM due ORDER BY position
    ON CONFLICT ON CONSTRAINT consumer_inbox_pkey DO NOTHING
    RETURNING event_id
)
SELECT due.* FROM due JOIN taken USING (event_id) ORDER BY position

-- name: take_event$
-- Count one event as handled by a group; NULL when it is already.
INSERT INTO consumer_inbox (consumer_group, event_id) VALUES (:consumer_group, :event_id)
ON CONFLICT ON CONSTRAINT consumer_inbox_pkey DO NOTHING
RETURNING true

-- name: advance_position!
-- Everything up to a position is done.
UPDATE consumer_positions SET position = :position, attempts = 0, retry_at = NULL
WHERE consumer_group = :consumer_group AND shard = :shard

-- name: list_positions*
-- Where every group stands.
SELECT consumer_group, position, attempts, retry_at FROM consumer_positions WHERE shard = :shard ORDER BY consumer_group

-- name: hold_position$
-- Where a group stands, and there it stays until commit.
SELECT position FROM consumer_positions WHERE consumer_group = :consumer_group AND shard = :shard FOR UPDATE

-- name: forget_handled$
-- Have a group handle everything after a position again; how many events that are.
WITH forgotten AS (
    DELETE FROM consumer_inbox i USING event_log l
    WHERE i.consumer_group = :consumer_group AND i.event_id = l.event_id AND l.shard = :shard AND l.position > :position
    RETURNING i.event_id
)
SELECT count(*) FROM forgotten

-- name: remove_consumer$
-- Forget a group that reads no more: what it has not read holds up no cut.
DELETE FROM consumer_positions WHERE consumer_group = :consumer_group RETURNING consumer_group

-- name: kept_since$
-- When the oldest event that is kept came to the log; now, when none is.
SELECT coalesce((SELECT recorded_at FROM event_log WHERE shard = :shard ORDER BY position LIMIT 1), now())

-- name: prune_inbox$
-- Drop inbox rows of events that are in the log no more, some at a time; how many.
WITH pruned AS (
    DELETE FROM consumer_inbox
    WHERE (consumer_group, event_id) IN (
        SELECT consumer_group, event_id FROM consumer_inbox WHERE handled_at < :before ORDER BY handled_at LIMIT :batch
    )
    RETURNING event_id
)
SELECT count(*) FROM pruned

-- name: leader_of$
-- The application of the session that leads a shard.
SELECT a.application_name
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint = :lock_class AND l.objid::bigint = :shard
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())

-- name: count_event!
-- One more event of a type on a day in India.
INSERT INTO event_counts (day, type, events)
VALUES ((:happened_at::timestamptz AT TIME ZONE 'Asia/Kolkata')::date, :type, 1)
ON CONFLICT ON CONSTRAINT event_counts_pkey DO UPDATE SET events = event_counts.events + 1

-- name: list_counts*
-- How often what happened on each of some days.
SELECT day, type, events FROM event_counts WHERE day BETWEEN :first AND :last ORDER BY day, type

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
ON CONFLICT ON CONSTRAINT dead_letters_event_key DO UPDATE
SET id = EXCLUDED.id, error = EXCLUDED.error, attempts = EXCLUDED.attempts, failed_at = now(), replayed_at = NULL

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
