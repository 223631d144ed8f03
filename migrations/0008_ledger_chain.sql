-- The hash chain over what was posted: blocks in four lanes. ledger/chain.py says what is hashed, byte for byte.
-- depends: 0006_payments

-- What guards it is in functions/, applied by 0008_ledger_chain_functions.py.
CREATE TABLE ledger.blocks (
    lane            smallint    NOT NULL CHECK (lane BETWEEN 0 AND 3),
    number          bigint      NOT NULL,               -- 1, 2, 3 … within its lane
    total           bigint      NOT NULL,               -- transactions sealed in this lane, with these
    sealed_at       timestamptz NOT NULL,
    previous        bytea       NOT NULL,               -- hash of the block before; 32 zero bytes before the first
    root            bytea       NOT NULL,               -- of the Merkle tree over the leaves
    hash            bytea       NOT NULL,
    transaction_ids uuid[]      NOT NULL,               -- by (recorded_at, id)
    leaves          bytea       NOT NULL,               -- 32 bytes for each of them, in that order
    CONSTRAINT blocks_pkey PRIMARY KEY (lane, number)
);

-- Hashes do not compress.
ALTER TABLE ledger.blocks ALTER transaction_ids SET STORAGE EXTERNAL, ALTER leaves SET STORAGE EXTERNAL;
