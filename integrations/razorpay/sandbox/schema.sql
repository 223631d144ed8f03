CREATE TABLE IF NOT EXISTS razorpay_orders (
    id text PRIMARY KEY,
    amount integer NOT NULL CHECK (amount >= 100),
    amount_paid integer NOT NULL DEFAULT 0,
    currency text NOT NULL,
    receipt text,
    notes text NOT NULL,
    status text NOT NULL DEFAULT 'created' CHECK (status IN ('created', 'attempted', 'paid')),
    attempts integer NOT NULL DEFAULT 0,
    capture text NOT NULL CHECK (capture IN ('automatic', 'manual')),
    created_at integer NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS razorpay_checkouts (
    id text PRIMARY KEY,
    order_id text NOT NULL REFERENCES razorpay_orders (id),
    fields text NOT NULL,
    created_at integer NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS razorpay_payments (
    id text PRIMARY KEY,
    order_id text NOT NULL REFERENCES razorpay_orders (id),
    amount integer NOT NULL,
    currency text NOT NULL,
    status text NOT NULL CHECK (status IN ('created', 'authorized', 'captured', 'failed')),
    method text NOT NULL,
    description text,
    email text,
    contact text,
    notes text NOT NULL,
    fee integer,
    tax integer,
    error_reason text,
    created_at integer NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS razorpay_payments_order ON razorpay_payments (order_id);

-- An order takes one payment: a second one authorized or captured cannot be stored.
CREATE UNIQUE INDEX IF NOT EXISTS razorpay_payments_one_live
    ON razorpay_payments (order_id) WHERE status IN ('authorized', 'captured');

CREATE TABLE IF NOT EXISTS razorpay_events (
    id text PRIMARY KEY,
    name text NOT NULL,
    entity_id text NOT NULL,
    body blob NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'delivered', 'expired', 'dropped')),
    attempts integer NOT NULL DEFAULT 0,
    copies integer NOT NULL DEFAULT 1,
    created_at real NOT NULL,
    retry_until real NOT NULL,
    next_attempt_at real NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS razorpay_events_due ON razorpay_events (next_attempt_at) WHERE state = 'pending';

CREATE TABLE IF NOT EXISTS razorpay_deliveries (
    id integer PRIMARY KEY,
    event_id text NOT NULL REFERENCES razorpay_events (id),
    attempted_at real NOT NULL,
    status integer,
    outcome text NOT NULL,
    duration_ms integer NOT NULL
) STRICT;
