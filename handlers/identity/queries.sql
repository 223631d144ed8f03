-- name: add_sign_up^
-- Begin a sign-up; one statement whether or not the address is taken, so that it takes as long.
INSERT INTO sign_ups (id, email, email_key, display_name, password_hash, address_taken, code_digest, expires_at)
SELECT :id, :email, :email_key, :display_name, CASE WHEN NOT address.taken THEN :password_hash END,
       address.taken, :code_digest, now() + make_interval(secs => :code_ttl_s)
FROM (SELECT EXISTS (SELECT FROM users WHERE email_key = :email_key) AS taken) AS address
RETURNING id, email, email_key, display_name, password_hash, address_taken, code_digest, wrong_codes, codes_sent,
          code_sent_at, expires_at, completed_at, now() AS now;

-- name: lock_sign_up^
-- A sign-up, for one decision at a time.
SELECT id, email, email_key, display_name, password_hash, address_taken, code_digest, wrong_codes, codes_sent,
       code_sent_at, expires_at, completed_at, now() AS now
FROM sign_ups WHERE id = :id FOR UPDATE;

-- name: renew_code^
-- A new code takes the place of the old one; wrong codes stay counted.
UPDATE sign_ups
SET code_digest = :code_digest, codes_sent = codes_sent + 1, code_sent_at = now(),
    expires_at = now() + make_interval(secs => :code_ttl_s)
WHERE id = :id
RETURNING id, email, email_key, display_name, password_hash, address_taken, code_digest, wrong_codes, codes_sent,
          code_sent_at, expires_at, completed_at, now() AS now;

-- name: count_wrong_code!
-- One more wrong code.
UPDATE sign_ups SET wrong_codes = wrong_codes + 1 WHERE id = :id;

-- name: complete_sign_up!
-- The password is the user's from here on.
UPDATE sign_ups SET completed_at = now(), password_hash = NULL WHERE id = :id;

-- name: add_user^
-- A user with a proven address; no row when the address has one, also when that one commits meanwhile.
INSERT INTO users (id, email, email_key, email_verified_at, display_name)
VALUES (:id, :email, :email_key, now(), :display_name)
ON CONFLICT ON CONSTRAINT users_email_key_key DO NOTHING
RETURNING id, email, email_verified_at, display_name, created_at;

-- name: find_user^
-- A user by id.
SELECT id, email, email_verified_at, display_name, created_at FROM users WHERE id = :id;

-- name: add_password!
-- The first password of a user.
INSERT INTO passwords (user_id, hash) VALUES (:user_id, :hash);

-- name: find_login^
-- What signing in is checked against.
SELECT users.id AS user_id, passwords.hash AS password_hash
FROM users JOIN passwords ON passwords.user_id = users.id
WHERE users.email_key = :email_key;

-- name: replace_password_hash!
-- The same password under new parameters, unless the password was changed meanwhile.
UPDATE passwords SET hash = :new_hash WHERE user_id = :user_id AND hash = :old_hash;

-- name: add_session^
-- Sign in; ends on a whole second, as tokens do.
INSERT INTO sessions (id, user_id, scopes, expires_at)
VALUES (:id, :user_id, :scopes, date_trunc('second', now()) + make_interval(secs => :ttl_s))
RETURNING id, user_id, scopes, created_at, expires_at;

-- name: revoke_session!
-- Sign out; the first time counts.
UPDATE sessions SET revoked_at = now(), revoked_in = pg_current_xact_id() WHERE id = :id AND revoked_at IS NULL;

-- name: session_is_live$
-- Whether a session is there and was not revoked.
SELECT revoked_at IS NULL FROM sessions WHERE id = :id;

-- name: find_revoked^
-- Sessions revoked by transactions from :since on whose tokens still run, and where the next look begins: at the
-- oldest transaction that this one does not see. The minute is for nodes whose clock runs behind this one.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS horizon,
       coalesce(array_agg(id ORDER BY id), '{}') AS ids,
       coalesce(array_agg(expires_at ORDER BY id), '{}') AS ends
FROM sessions WHERE revoked_in >= :since::text::xid8 AND expires_at > now() - interval '1 minute';

-- name: add_email!
-- A mail that is owed from this commit on.
INSERT INTO emails (id, to_address, subject, text, expires_at)
VALUES (:id, :to_address, :subject, :text, now() + make_interval(secs => :useful_s));

-- name: claim_email^
-- Hold one mail, unless somebody else does or it is not due.
UPDATE emails SET leased_until = now() + make_interval(secs => :lease_s), attempts = attempts + 1
WHERE id = :id AND sent_at IS NULL AND failed_at IS NULL AND next_attempt_at <= now()
  AND (leased_until IS NULL OR leased_until <= now())
RETURNING id, to_address, subject, text, attempts, leased_until;

-- name: claim_due_email^
-- Hold the mail that has been due for longest; two sweeps at once take different ones.
UPDATE emails SET leased_until = now() + make_interval(secs => :lease_s), attempts = attempts + 1
WHERE id = (
    SELECT id FROM emails
    WHERE sent_at IS NULL AND failed_at IS NULL AND next_attempt_at <= now()
      AND (leased_until IS NULL OR leased_until <= now())
    ORDER BY next_attempt_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id, to_address, subject, text, attempts, leased_until;

-- name: settle_email_sent!
-- Handed over; its text is not needed any more.
UPDATE emails SET sent_at = now(), text = NULL, leased_until = NULL, last_error = NULL
WHERE id = :id AND sent_at IS NULL AND failed_at IS NULL;

-- name: settle_email_failed!
-- Refused for good.
UPDATE emails SET failed_at = now(), text = NULL, leased_until = NULL, last_error = :reason
WHERE id = :id AND sent_at IS NULL AND failed_at IS NULL;

-- name: postpone_email!
-- Try later, or never when it would come too late; only by whom the mail is still held.
UPDATE emails
SET next_attempt_at = now() + make_interval(secs => :delay_s), leased_until = NULL, last_error = :reason,
    failed_at = CASE WHEN now() + make_interval(secs => :delay_s) >= expires_at THEN now() END,
    text = CASE WHEN now() + make_interval(secs => :delay_s) < expires_at THEN text END
WHERE id = :id AND leased_until = :leased_until AND sent_at IS NULL AND failed_at IS NULL;
