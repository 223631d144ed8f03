"""The functions of the log's days, version 1; then the log as it was moves into them."""

from pathlib import Path

from yoyo import step

__depends__ = {"0010_event_log_days"}

FUNCTIONS = Path(__file__).parent / "functions"

# The day of an event is that of its move, as far as it was written down: a later position never has an earlier one.
MOVE = """
DO $$
DECLARE
    began record;
BEGIN
    CREATE TEMPORARY TABLE dated ON COMMIT DROP AS
    SELECT shard, position,
           (max(recorded_at) OVER (PARTITION BY shard ORDER BY position) AT TIME ZONE 'UTC')::date AS day
    FROM event_log_before;
    FOR began IN SELECT shard, day, min(position) AS position FROM dated GROUP BY 1, 2 ORDER BY 1, 2 LOOP
        PERFORM ensure_event_days_v1(began.day, 1);
        INSERT INTO event_log_days (shard, day, first_position) VALUES (began.shard, began.day, began.position);
        UPDATE event_log_shards SET day = began.day WHERE shard = began.shard;
    END LOOP;
    INSERT INTO event_log (shard, day, position, event_id, type, subject, channels, data, happened_at, recorded_at,
                           sequence, traceparent)
    SELECT b.shard, d.day, b.position, event_id, type, subject, channels, data, happened_at, recorded_at, sequence,
           traceparent
    FROM event_log_before b JOIN dated d USING (shard, position)
    ORDER BY b.shard, b.position;
    DROP TABLE event_log_before;
    PERFORM ensure_event_days_v1((now() AT TIME ZONE 'UTC')::date, 2);
END $$
"""

GUARD = """
CREATE TRIGGER guard AFTER INSERT ON event_log REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION guard_event_log_v1()
"""

# Going back, the log becomes one table again in 0010_event_log_days.rollback.sql.
steps = [
    step(
        (FUNCTIONS / "event_log_days_v1.sql").read_text("utf-8"),
        "DROP FUNCTION guard_event_log_v1, drop_event_day_v1, ensure_event_days_v1",
    ),
    step(MOVE, "SELECT 1"),
    step(GUARD, "DROP TRIGGER guard ON event_log"),
]
