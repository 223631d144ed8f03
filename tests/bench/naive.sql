-- The yardstick of several benches: what a transfer in several round trips works on. Plain tables, two entries and a key.
CREATE SCHEMA bench;

CREATE TABLE bench.balances (id int PRIMARY KEY, balance numeric(20, 2) NOT NULL);
CREATE TABLE bench.transfers (key text PRIMARY KEY, id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT now());
CREATE TABLE bench.entries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL, account int NOT NULL REFERENCES bench.balances,
    amount numeric(20, 2) NOT NULL, balance_after numeric(20, 2) NOT NULL, at timestamptz DEFAULT now());
CREATE INDEX ON bench.entries (account, id);
INSERT INTO bench.balances SELECT n, 1000000 FROM generate_series(1, 100000) n;
