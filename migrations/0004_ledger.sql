-- The ledger: accounts, transactions, append-only entries, and one running balance per account.
-- depends: 0003_identity
-- Credit is positive, debit is negative; a transaction's entries sum to zero per currency.
-- The functions that write it are in functions/, applied by 0005_ledger_functions.py.

CREATE SCHEMA ledger;

CREATE TABLE ledger.currencies (
    code     text     PRIMARY KEY CHECK (code ~ '^[A-Z]{3}$'),
    exponent smallint NOT NULL CHECK (exponent BETWEEN 0 AND 4)
);

INSERT INTO ledger.currencies (code, exponent) VALUES ('INR', 2);

-- NUMERIC knows NaN and Infinity and any scale; money does not.
CREATE DOMAIN ledger.amount AS numeric
    CONSTRAINT amount_is_money CHECK (VALUE > -1000000000000000 AND VALUE < 1000000000000000 AND scale(VALUE) <= 4);

CREATE TABLE ledger.accounts (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code          text        COLLATE "C" NOT NULL CHECK (code ~ '^[a-z0-9_]+(:[A-Za-z0-9_]+)*$' AND length(code) <= 200),
    currency      text        NOT NULL REFERENCES ledger.currencies (code),
    kind          text        NOT NULL CHECK (kind IN ('asset', 'liability', 'equity', 'income', 'expense')),
    credit_normal boolean     NOT NULL GENERATED ALWAYS AS (kind IN ('liability', 'equity', 'income')) STORED,
    floor         ledger.amount,                -- the lowest balance on its normal side; NULL: none
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT accounts_code_key UNIQUE (code, currency)
);

CREATE TABLE ledger.balances (
    account_id    bigint        PRIMARY KEY REFERENCES ledger.accounts (id),
    currency      text          NOT NULL,
    credit_normal boolean       NOT NULL,
    floor         ledger.amount,
    credits       ledger.amount NOT NULL DEFAULT 0 CHECK (credits >= 0),
    debits        ledger.amount NOT NULL DEFAULT 0 CHECK (debits >= 0),
    sequence      bigint        NOT NULL DEFAULT 0 CHECK (sequence >= 0),
    recorded_at   timestamptz   NOT NULL DEFAULT now(),
    CONSTRAINT balances_floor CHECK (
        floor IS NULL OR CASE WHEN credit_normal THEN credits - debits ELSE debits - credits END >= floor)
) WITH (fillfactor = 50);

CREATE TABLE ledger.transactions (
    id           text        COLLATE "C" PRIMARY KEY CHECK (id ~ '^txn_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
    key          text        COLLATE "C" NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    request_hash bytea       NOT NULL CHECK (octet_length(request_hash) = 32),
    kind         text        NOT NULL CHECK (kind ~ '^[a-z_]+$'),
    reference    text        NOT NULL CHECK (length(reference) <= 200),
    metadata     jsonb       NOT NULL,
    happened_at  timestamptz NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    xid          xid8        NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT transactions_key_key UNIQUE (key)
);

CREATE INDEX transactions_reference_idx ON ledger.transactions (reference);

CREATE TABLE ledger.entries (
    account_id     bigint        NOT NULL REFERENCES ledger.balances (account_id),
    sequence       bigint        NOT NULL CHECK (sequence > 0),
    transaction_id text          COLLATE "C" NOT NULL REFERENCES ledger.transactions (id),
    currency       text          NOT NULL,
    amount         ledger.amount NOT NULL CHECK (amount <> 0),
    balance_after  ledger.amount NOT NULL,      -- credits minus debits, this entry included
    recorded_at    timestamptz   NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT entries_pkey PRIMARY KEY (account_id, sequence)
);

CREATE INDEX entries_transaction_id_idx ON ledger.entries (transaction_id);
