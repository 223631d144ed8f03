-- What every slice stands on: stored answers of idempotent requests.
-- depends:

CREATE TABLE idempotency_keys (
    scope        text        NOT NULL,          -- user and operation
    key_hash     bytea       NOT NULL,          -- SHA-256 of the client's key
    fingerprint  bytea       NOT NULL,          -- SHA-256 of the canonical request
    locked_until timestamptz,                   -- a lease while the first request runs; NULL once answered
    status       smallint,
    body         json,                          -- json, not jsonb: a replay is the first answer to the letter
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (scope, key_hash),
    CONSTRAINT idempotency_keys_hashes CHECK (octet_length(key_hash) = 32 AND octet_length(fingerprint) = 32),
    CONSTRAINT idempotency_keys_answered CHECK ((locked_until IS NULL) = (status IS NOT NULL))
);

CREATE INDEX idempotency_keys_expires_at_idx ON idempotency_keys (expires_at);
