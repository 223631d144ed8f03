-- Prepared arguments for the ledger's function, so that making them is not measured. After naive.sql.
INSERT INTO ledger.accounts (code, currency, kind, floor)
SELECT 'bench:' || n, 'INR', 'liability', -1000000000 FROM generate_series(1, 100000) n;

CREATE TABLE bench.batches (
    id int PRIMARY KEY, ids bigint[], keys text[],
    hashes bytea[], types text[], refs text[], metadata jsonb[], sizes int[], postings int[], accounts int[], amounts numeric[]);
CREATE SEQUENCE bench.random_batch;
CREATE SEQUENCE bench.hot_batch START 1000001;

-- Batches of p_size transfers between random accounts, or all to one.
CREATE FUNCTION bench.fill(p_from int, p_count int, p_size int, p_hot boolean) RETURNS void LANGUAGE sql AS $$
    WITH leg AS (
        SELECT b, p, side, CASE WHEN side = 2 AND p_hot THEN 100000
                                ELSE 1 + (hashint8(b * 1000 + p * 2 + side)::bigint + 2147483648) % 99999 END AS account
        FROM generate_series(p_from, p_from + p_count - 1) b, generate_series(1, p_size) p, generate_series(1, 2) side
    ), apart AS (
        SELECT b, p, side, CASE WHEN side = 2 AND account = lag(account) OVER (PARTITION BY b, p ORDER BY side)
                                THEN account % 99999 + 1 ELSE account END AS account FROM leg
    ), named AS (
        SELECT *, dense_rank() OVER (PARTITION BY b ORDER BY account) AS n FROM apart
    ), account AS (
        SELECT b, array_agg(account ORDER BY n) AS ids FROM (SELECT DISTINCT b, n, account FROM named) d GROUP BY b
    ), legs AS (
        SELECT b, array_agg(p ORDER BY p, side) AS postings, array_agg(n::int ORDER BY p, side) AS accounts,
               array_agg(CASE WHEN side = 1 THEN -1.50 ELSE 1.50 END ORDER BY p, side) AS amounts
        FROM named GROUP BY b
    )
    INSERT INTO bench.batches
    SELECT b, ids,
           (SELECT array_agg(b || ':' || p) FROM generate_series(1, p_size) p),
           array_fill(sha256('bench'), ARRAY[p_size]), array_fill('transfer'::text, ARRAY[p_size]),
           array_fill(''::text, ARRAY[p_size]), array_fill('{}'::jsonb, ARRAY[p_size]), array_fill(2, ARRAY[p_size]),
           postings, accounts, amounts
    FROM account JOIN legs USING (b)
$$;

SELECT bench.fill(1, 4000, 50, false);
SELECT bench.fill(1000001, 4000, 50, true);
