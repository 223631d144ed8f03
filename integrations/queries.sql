-- name: record_delivery^
-- Store a delivery; a repeat of an event only counts (`fresh` false).
INSERT INTO inbox (id, vendor, source, event_key, headers, body, state, outcome, finished_at)
VALUES (:id, :vendor, :source, :event_key, :headers, :body, :state, :outcome,
        CASE WHEN :state = 'received' THEN NULL ELSE now() END)
ON CONFLICT ON CONSTRAINT inbox_one_per_event DO UPDATE SET deliveries = inbox.deliveries + 1
RETURNING id, state, (xmax = 0) AS fresh;

-- name: claim_delivery^
-- Take one delivery that is due, if nobody else works on it.
UPDATE inbox SET leased_until = now() + :lease::interval, attempts = attempts + 1
WHERE id = (
    SELECT id FROM inbox
    WHERE id = :id AND state = 'received' AND next_attempt_at <= now() AND coalesce(leased_until, '-infinity') < now()
    FOR UPDATE SKIP LOCKED)
RETURNING id, vendor, source, event_key, headers, body, attempts, received_at;

-- name: due_deliveries*
-- Deliveries that wait for work, the oldest first.
SELECT id FROM inbox
WHERE state = 'received' AND next_attempt_at <= now() AND coalesce(leased_until, '-infinity') < now()
ORDER BY next_attempt_at LIMIT :limit;

-- name: finish_delivery!
-- Work on a delivery is over, in the transaction of its effect.
UPDATE inbox SET state = :state, outcome = :outcome, finished_at = now(), leased_until = NULL
WHERE id = :id AND state = 'received';

-- name: postpone_delivery!
-- Try again later.
UPDATE inbox SET next_attempt_at = now() + :delay::interval, leased_until = NULL, outcome = :outcome
WHERE id = :id AND state = 'received';
