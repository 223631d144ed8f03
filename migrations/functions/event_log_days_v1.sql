-- The log's days: made by whoever needs one, dropped when they are over; and what holds the log together.

-- Make the partitions of days, as far as they are missing. Returns how many were made.
-- A table by itself is attached, not made in place: that would wait for every reader of the log, and they for it.
CREATE FUNCTION ensure_event_days_v1(p_from date, p_days int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    wanted date;
    name   text;
    made   int := 0;
BEGIN
    LOCK TABLE event_log IN SHARE UPDATE EXCLUSIVE MODE;    -- one at a time; readers and the relay go on
    FOR n IN 0 .. p_days - 1 LOOP
        wanted := p_from + n;
        name := 'event_log_' || to_char(wanted, 'YYYY_MM_DD');
        CONTINUE WHEN to_regclass('public.' || name) IS NOT NULL;
        EXECUTE format('CREATE TABLE public.%I (LIKE event_log INCLUDING ALL)', name);
        -- Rows go in and out through event_log, past its guard.
        EXECUTE format('REVOKE ALL ON public.%I FROM matchday_app', name);
        EXECUTE format('ALTER TABLE event_log ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                       name, wanted, wanted + 1);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

-- Drop a day, when every group of consumers has passed it. Returns how many events it had, NULL when it stays.
-- Refuses a day before which another one stands: the log is cut at its beginning only. The ends of the shards are
-- held first, as by the relay, so that nothing is appended to a day that goes. Whoever waits for a lock here makes
-- others wait, so it gives up soon (55P03) and is called again.
CREATE FUNCTION drop_event_day_v1(p_day date) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    dropped bigint;
    behind  boolean;
BEGIN
    PERFORM FROM event_log_shards ORDER BY shard FOR UPDATE;
    IF EXISTS (SELECT FROM event_log_days WHERE day < p_day) THEN
        RAISE EXCEPTION 'there is a day before %', p_day;
    END IF;
    SELECT coalesce(sum(day.next - day.first_position), 0),
           coalesce(bool_or(EXISTS (SELECT FROM consumer_positions p
                                    WHERE p.shard = day.shard AND p.position < day.next - 1)), false)
    INTO dropped, behind
    FROM (SELECT d.shard, d.first_position,
                 coalesce((SELECT min(later.first_position) FROM event_log_days later
                           WHERE later.shard = d.shard AND later.day > d.day), s.head + 1) AS next
          FROM event_log_days d JOIN event_log_shards s USING (shard) WHERE d.day = p_day) day
    WHERE day.next > day.first_position;
    IF behind THEN
        RETURN NULL;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS public.%I', 'event_log_' || to_char(p_day, 'YYYY_MM_DD'));
    DELETE FROM event_log_days WHERE day = p_day;
    RETURN dropped;
END $$;

-- What is appended continues the log: in the newest day, at or after its beginning, without a hole and without a
-- position that is there already. One look for each statement, into the partition it wrote.
CREATE FUNCTION guard_event_log_v1() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM (SELECT shard, min(day) AS day, max(day) AS last_day, min(position) AS first,
                            max(position) AS last, count(*) AS events
                     FROM added GROUP BY shard) batch
        LEFT JOIN event_log_days d ON d.shard = batch.shard AND d.day = batch.day
        WHERE batch.last_day > batch.day
           OR batch.last - batch.first + 1 <> batch.events
           OR d.first_position IS NULL
           OR batch.first < d.first_position
           OR EXISTS (SELECT FROM event_log_days later WHERE later.shard = batch.shard AND later.day > batch.day)
           OR (batch.first > d.first_position
               AND NOT EXISTS (SELECT FROM event_log before WHERE before.shard = batch.shard
                               AND before.day = batch.day AND before.position = batch.first - 1))
    ) THEN
        RAISE EXCEPTION 'what is appended does not continue the log' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

REVOKE EXECUTE ON FUNCTION ensure_event_days_v1, drop_event_day_v1 FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_event_days_v1, drop_event_day_v1 TO matchday_app;
