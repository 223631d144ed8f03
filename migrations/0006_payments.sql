-- Deposits through a gateway's hosted checkout, and the inbox of what gateways tell us.
-- depends: 0005_ledger_functions

CREATE TABLE deposits (
    id                    text           COLLATE "C" NOT NULL CHECK (id ~ '^dep_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
    user_id               text           COLLATE "C" NOT NULL,
    amount                numeric        NOT NULL CHECK (amount > 0 AND amount < 1000000000000000 AND scale(amount) <= 4),
    currency              text           NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    gateway               text           NOT NULL,
    state                 text           NOT NULL CHECK (state IN ('created', 'pending', 'paid')),
    idempotency_key_hash  bytea          NOT NULL CHECK (octet_length(idempotency_key_hash) = 32),
    checkout_id           text           COLLATE "C" NOT NULL,
    checkout_form         jsonb,                      -- where the payer's browser is sent, once the order is open
    gateway_order_id      text           COLLATE "C",
    gateway_payment_id    text           COLLATE "C",
    ledger_transaction_id text           COLLATE "C",
    last_failure_code     text,
    created_at            timestamptz    NOT NULL DEFAULT now(),
    updated_at            timestamptz    NOT NULL DEFAULT now(),
    paid_at               timestamptz,
    CONSTRAINT deposits_pkey PRIMARY KEY (id),
    CONSTRAINT deposits_checkout_id_key UNIQUE (checkout_id),
    CONSTRAINT deposits_one_per_key UNIQUE (user_id, idempotency_key_hash),
    CONSTRAINT deposits_one_per_order UNIQUE (gateway, gateway_order_id),
    CONSTRAINT deposits_one_per_payment UNIQUE (gateway, gateway_payment_id),
    CONSTRAINT deposits_pending_has_order CHECK (
        state = 'created' OR (gateway_order_id IS NOT NULL AND checkout_form IS NOT NULL)),
    CONSTRAINT deposits_paid_is_posted CHECK (
        (state = 'paid') = (paid_at IS NOT NULL AND ledger_transaction_id IS NOT NULL AND gateway_payment_id IS NOT NULL))
);

CREATE TABLE inbox (
    id              text        COLLATE "C" NOT NULL CHECK (id ~ '^inb_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
    vendor          text        NOT NULL,
    source          text        NOT NULL CHECK (source IN ('webhook', 'return')),
    event_key       text        COLLATE "C" NOT NULL CHECK (length(event_key) BETWEEN 1 AND 200),
    headers         jsonb       NOT NULL,       -- those that the vendor's parser reads, nothing else
    body            bytea       NOT NULL,
    state           text        NOT NULL CHECK (state IN ('received', 'done', 'ignored', 'parked', 'dead')),
    outcome         text,                       -- why it is where it is, in a word
    deliveries      integer     NOT NULL DEFAULT 1,
    attempts        integer     NOT NULL DEFAULT 0,
    received_at     timestamptz NOT NULL DEFAULT now(),
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    leased_until    timestamptz,
    finished_at     timestamptz,
    CONSTRAINT inbox_pkey PRIMARY KEY (id),
    CONSTRAINT inbox_one_per_event UNIQUE (vendor, event_key),
    CONSTRAINT inbox_finished CHECK ((state = 'received') = (finished_at IS NULL))
);

CREATE INDEX inbox_due_idx ON inbox (next_attempt_at) WHERE state = 'received';
