-- Who somebody is: sign-ups, users and their passwords, sessions, and the mail that is owed to them.
-- depends: 0002_streams

CREATE TABLE users (
    id                text        COLLATE "C" NOT NULL,
    email             text        NOT NULL,
    email_key         text        COLLATE "C" NOT NULL,     -- lower case: one address, one user
    email_verified_at timestamptz NOT NULL,
    display_name      text        NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_email_key_key UNIQUE (email_key),
    CONSTRAINT users_email_length CHECK (char_length(email) BETWEEN 3 AND 254),
    CONSTRAINT users_display_name_length CHECK (char_length(display_name) BETWEEN 1 AND 60)
);

-- Apart from users: not everybody has a password, and most readers of a user must not see one.
CREATE TABLE passwords (
    user_id text        COLLATE "C" NOT NULL,
    hash    text        NOT NULL,                           -- argon2id with its parameters, over a peppered password
    set_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT passwords_pkey PRIMARY KEY (user_id),
    CONSTRAINT passwords_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);

CREATE TABLE sign_ups (
    id            text        COLLATE "C" NOT NULL,
    email         text        NOT NULL,
    email_key     text        COLLATE "C" NOT NULL,
    display_name  text        NOT NULL,
    password_hash text,                                     -- NULL once it is the user's, and for a taken address
    address_taken boolean     NOT NULL,                     -- no code completes this one
    code_digest   bytea       NOT NULL,                     -- HMAC-SHA256(pepper, id and code)
    wrong_codes   smallint    NOT NULL DEFAULT 0,           -- counted over all codes of the sign-up
    codes_sent    smallint    NOT NULL DEFAULT 1,
    code_sent_at  timestamptz NOT NULL DEFAULT now(),
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    completed_at  timestamptz,
    CONSTRAINT sign_ups_pkey PRIMARY KEY (id),
    CONSTRAINT sign_ups_code_digest CHECK (octet_length(code_digest) = 32),
    CONSTRAINT sign_ups_wrong_codes CHECK (wrong_codes BETWEEN 0 AND 5),
    CONSTRAINT sign_ups_codes_sent CHECK (codes_sent BETWEEN 1 AND 6),
    CONSTRAINT sign_ups_taken_never_completes CHECK (NOT (address_taken AND completed_at IS NOT NULL)),
    CONSTRAINT sign_ups_password_while_open
        CHECK ((password_hash IS NULL) = (address_taken OR completed_at IS NOT NULL))
);

CREATE TABLE sessions (
    id         text        COLLATE "C" NOT NULL,
    user_id    text        COLLATE "C" NOT NULL,
    scopes     text[]      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,                        -- no token of the session is good after it
    revoked_at timestamptz,
    -- The transaction that revoked: whoever follows revocations asks from the oldest transaction that its last look
    -- could not see, and so misses none that commits late.
    revoked_in xid8,
    CONSTRAINT sessions_pkey PRIMARY KEY (id),
    CONSTRAINT sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT sessions_revoked CHECK ((revoked_at IS NULL) = (revoked_in IS NULL))
);

CREATE INDEX sessions_user_id_idx ON sessions (user_id);
CREATE INDEX sessions_revoked_in_idx ON sessions (revoked_in) WHERE revoked_in IS NOT NULL;

-- Mail owed to people, written with the change that owes it and handed over after the commit.
CREATE TABLE emails (
    id              text        COLLATE "C" NOT NULL,       -- also the Message-ID, so that a repeat can be told
    to_address      text        NOT NULL,
    subject         text        NOT NULL,
    text            text,                                   -- may hold a code: gone once sent or given up
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL,                   -- of no use to the reader after it
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    attempts        smallint    NOT NULL DEFAULT 0,
    leased_until    timestamptz,
    sent_at         timestamptz,
    failed_at       timestamptz,                            -- given up: refused for good, or expired
    last_error      text,
    CONSTRAINT emails_pkey PRIMARY KEY (id),
    CONSTRAINT emails_one_end CHECK (sent_at IS NULL OR failed_at IS NULL),
    CONSTRAINT emails_text_while_due CHECK ((text IS NULL) = (sent_at IS NOT NULL OR failed_at IS NOT NULL))
);

CREATE INDEX emails_due_idx ON emails (next_attempt_at, id) WHERE sent_at IS NULL AND failed_at IS NULL;
