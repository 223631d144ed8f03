-- name: claim_key^
-- Take the key for one request: it is new, or expired, or its first request died with its lease.
INSERT INTO idempotency_keys (scope, key_hash, fingerprint, locked_until, expires_at)
VALUES (:scope, :key_hash, :fingerprint, now() + :lease::interval, now() + :ttl::interval)
ON CONFLICT (scope, key_hash) DO UPDATE
SET fingerprint = EXCLUDED.fingerprint, locked_until = EXCLUDED.locked_until, expires_at = EXCLUDED.expires_at,
    status = NULL, body = NULL, created_at = now()
WHERE idempotency_keys.expires_at < now()
   OR (idempotency_keys.locked_until < now() AND idempotency_keys.fingerprint = EXCLUDED.fingerprint)
RETURNING locked_until;

-- name: read_key^
-- What is known of a key that could not be taken.
SELECT fingerprint, status, body FROM idempotency_keys WHERE scope = :scope AND key_hash = :key_hash;

-- name: finish_key$
-- Store the answer, in the transaction of the effect; only for whoever still holds the lease.
UPDATE idempotency_keys SET locked_until = NULL, status = :status, body = :body
WHERE scope = :scope AND key_hash = :key_hash AND locked_until = :locked_until
RETURNING true;

-- name: release_key!
-- Give the key back: nothing happened under it.
DELETE FROM idempotency_keys WHERE scope = :scope AND key_hash = :key_hash AND locked_until = :locked_until;

-- name: purge_keys$
-- Forget a batch of expired keys; the number forgotten.
WITH gone AS (
    DELETE FROM idempotency_keys WHERE (scope, key_hash) IN (
        SELECT scope, key_hash FROM idempotency_keys WHERE expires_at < now()
        ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ) RETURNING 1
)
SELECT count(*) FROM gone;
