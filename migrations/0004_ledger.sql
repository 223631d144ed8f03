-- The ledger: accounts, one balance per account, transactions, append-only entries, holds.
-- depends: 0003_identity
-- Credit is positive, debit is negative; a transaction's entries sum to zero per currency. What guards these tables and
-- what writes them is in functions/, applied by 0005_ledger_functions.py. ledger/README.md tells the whole story.
-- The three tables of the posting path have no CHECK: PostgreSQL reads a check's text anew in every statement, which cost
-- a posting a fifth of its time. Their rules stand in the guards, which look at every row in any case.

CREATE SCHEMA ledger;

CREATE TABLE ledger.currencies (
    code     text     PRIMARY KEY CHECK (code ~ '^[A-Z]{3}$'),
    exponent smallint NOT NULL CHECK (exponent BETWEEN 0 AND 4)
);

INSERT INTO ledger.currencies (code, exponent) VALUES ('INR', 2);

-- NUMERIC knows NaN and Infinity and any scale; money does not. (NaN is greater than every number.)
CREATE DOMAIN ledger.amount AS numeric
    CONSTRAINT amount_is_money CHECK (VALUE > -1000000000000000 AND VALUE < 1000000000000000 AND scale(VALUE) <= 4);

-- What an account is. It never changes; what may change about it stands in its balance row.
CREATE TABLE ledger.accounts (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code          text        COLLATE "C" NOT NULL CHECK (code ~ '^[a-z0-9_]+(:[A-Za-z0-9_]+)*$' AND length(code) <= 200),
    currency      text        NOT NULL REFERENCES ledger.currencies (code),
    kind          text        NOT NULL CHECK (kind IN ('asset', 'liability', 'equity', 'income', 'expense')),
    credit_normal boolean     NOT NULL GENERATED ALWAYS AS (kind IN ('liability', 'equity', 'income')) STORED,
    floor         ledger.amount,                -- the lowest available balance, on the normal side; NULL: none
    ceiling       ledger.amount,                -- the highest balance with what is pending; NULL: none
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT accounts_code_key UNIQUE (code, currency)
);

-- Every change of what an account may do, with who and why.
CREATE TABLE ledger.account_changes (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint      NOT NULL REFERENCES ledger.accounts (id),
    status     text        NOT NULL CHECK (status IN ('open', 'frozen', 'closed')),
    floor      ledger.amount,
    ceiling    ledger.amount,
    actor      text        NOT NULL CHECK (length(actor) BETWEEN 1 AND 100),
    reason     text        NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX account_changes_account_id_idx ON ledger.account_changes (account_id);

-- The hot row of an account. Nothing but the primary key is indexed, so that every update stays on its page.
CREATE TABLE ledger.balances (
    account_id      bigint      PRIMARY KEY REFERENCES ledger.accounts (id),
    sequence        bigint      NOT NULL DEFAULT 0,
    recorded_at     timestamptz NOT NULL DEFAULT now(),     -- of the last entry; of the opening before the first
    change_id       bigint,                                 -- the row of account_changes in force; NULL: as opened
    currency        text        NOT NULL,
    exponent        smallint    NOT NULL,
    credit_normal   boolean     NOT NULL,
    status          text        NOT NULL DEFAULT 'open',
    floor           numeric,
    ceiling         numeric,
    credits         numeric     NOT NULL DEFAULT 0,
    debits          numeric     NOT NULL DEFAULT 0,
    pending_credits numeric     NOT NULL DEFAULT 0,
    pending_debits  numeric     NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- A transaction's id is computed from its key (SHA-256 in a UUIDv8, RFC 9562 section 5.8): whoever knows the key knows
-- the id, before and after, and one unique index serves both.
CREATE FUNCTION ledger.transaction_id(key text) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN
    overlay(overlay(left(encode(sha256(key::bytea), 'hex'), 32) PLACING '8' FROM 13) PLACING '8' FROM 17)::uuid;

CREATE TABLE ledger.transactions (
    recorded_at  timestamptz NOT NULL,          -- one instant for all its entries, later than all they follow
    happened_at  timestamptz NOT NULL,
    id           uuid        GENERATED ALWAYS AS (ledger.transaction_id(key)) STORED PRIMARY KEY,
    hold_id      uuid,                          -- the hold it places (its own id) or resolves
    reverses     uuid,
    expires_at   timestamptz,                   -- of the hold it places
    accounts     bigint[]    NOT NULL,          -- those that it has an entry of, ascending
    request_hash bytea       NOT NULL,
    key          text        COLLATE "C" NOT NULL,
    kind         text        NOT NULL,
    reference    text        COLLATE "C" NOT NULL,
    hold_group   text        COLLATE "C",
    metadata     jsonb       NOT NULL
);

CREATE INDEX transactions_reference_idx ON ledger.transactions (reference, recorded_at) WHERE reference <> '';
CREATE INDEX transactions_metadata_idx ON ledger.transactions USING gin (metadata jsonb_path_ops) WHERE metadata <> '{}';
CREATE INDEX transactions_hold_id_idx ON ledger.transactions (hold_id) WHERE hold_id IS NOT NULL;
CREATE UNIQUE INDEX transactions_reverses_idx ON ledger.transactions (reverses) WHERE reverses IS NOT NULL;

-- One line of one account. (account, instant) is its key: the instants of an account only ever go up, so that one index
-- serves paging, the balance at a past instant, and finding the entries of a transaction.
CREATE TABLE ledger.entries (
    account_id      bigint      NOT NULL,
    recorded_at     timestamptz NOT NULL,
    happened_at     timestamptz NOT NULL,
    sequence        bigint      NOT NULL,
    transaction_id  uuid        NOT NULL,
    currency        text        COLLATE "C" NOT NULL,       -- its account's
    amount          numeric     NOT NULL,                   -- what is posted
    pending_debit   numeric     NOT NULL DEFAULT 0,         -- how the pending sides change
    pending_credit  numeric     NOT NULL DEFAULT 0,
    credits         numeric     NOT NULL,                   -- the balance that this entry leaves behind
    debits          numeric     NOT NULL,
    pending_credits numeric     NOT NULL,
    pending_debits  numeric     NOT NULL,
    CONSTRAINT entries_pkey PRIMARY KEY (account_id, recorded_at)
) PARTITION BY RANGE (recorded_at);

-- What was written down long after it happened, so that a balance by the other clock finds it without reading all.
CREATE INDEX entries_late_idx ON ledger.entries (account_id, happened_at)
    WHERE recorded_at - happened_at >= interval '1 hour';

-- Where a row goes for which no month was made in time. It stays empty; the audit says when it does not.
CREATE TABLE ledger.entries_default PARTITION OF ledger.entries DEFAULT;

-- What became of each hold: a projection of the entries, written by their trigger.
CREATE TABLE ledger.holds (
    id         uuid        PRIMARY KEY,                     -- of the transaction that placed it
    source     bigint      NOT NULL,
    target     bigint      NOT NULL,
    amount     numeric     NOT NULL CHECK (amount > 0),
    captured   numeric     NOT NULL DEFAULT 0 CHECK (captured >= 0),
    released   numeric     NOT NULL DEFAULT 0 CHECK (released >= 0),
    expires_at timestamptz NOT NULL,
    hold_group text        COLLATE "C",
    CONSTRAINT holds_resolved_once CHECK (captured + released <= amount)
);

CREATE INDEX holds_open_idx ON ledger.holds (expires_at) WHERE captured + released < amount;
CREATE INDEX holds_source_idx ON ledger.holds (source) WHERE captured + released < amount;
CREATE INDEX holds_target_idx ON ledger.holds (target) WHERE captured + released < amount;
CREATE INDEX holds_group_idx ON ledger.holds (hold_group) WHERE hold_group IS NOT NULL;

-- Transactions that no block of the hash chain holds yet, by lane.
CREATE TABLE ledger.unsealed (
    transaction_id uuid     NOT NULL,
    lane           smallint NOT NULL
);

-- Months of entries that were taken out; see docs/runbooks. Whoever looks for an entry of such a month has to bring it back.
CREATE TABLE ledger.archived_months (
    month       date        PRIMARY KEY,
    entries     bigint      NOT NULL,
    digest      bytea       NOT NULL,           -- SHA-256 over the archived rows
    archived_at timestamptz NOT NULL DEFAULT now()
);
