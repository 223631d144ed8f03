-- What growth_bench calls: the ledger's function, timed inside the server, so that neither a client nor the making of its
-- arguments nor the flush at the end is in the figure.
CREATE SCHEMA bench;

-- Post p_calls times p_size transfers between wallets 1 to p_wallets, each call in a transaction of its own.
CREATE PROCEDURE bench.post(p_calls int, p_size int, p_wallets int, INOUT spent_s double precision DEFAULT 0)
LANGUAGE plpgsql AS $$
DECLARE
    apart    int := p_wallets / (2 * p_size);
    sizes    int[] := array_fill(2, ARRAY[p_size]);
    postings int[] := ARRAY(SELECT n FROM generate_series(1, p_size) n, generate_series(1, 2));
    accounts int[] := ARRAY(SELECT CASE side WHEN 1 THEN n ELSE 2 * p_size + 1 - n END
                            FROM generate_series(1, p_size) n, generate_series(1, 2) side);
    amounts  numeric[] := ARRAY(SELECT CASE side WHEN 1 THEN -1.50 ELSE 1.50 END
                                FROM generate_series(1, p_size), generate_series(1, 2) side);
    kinds    text[] := array_fill('transfer'::text, ARRAY[p_size]);
    metadata jsonb[] := array_fill('{}'::jsonb, ARRAY[p_size]);
    hashes   bytea[] := array_fill(sha256('bench'), ARRAY[p_size]);
    instants timestamptz[] := array_fill(NULL::timestamptz, ARRAY[p_size]);
    wallets  bigint[];
    keys     text[];
    refs     text[];
    began    timestamptz;
BEGIN
    FOR i IN 1 .. p_calls LOOP
        wallets := ARRAY(SELECT f.first + n * apart FROM (SELECT 1 + floor(random() * apart)::bigint AS first OFFSET 0) f,
                         generate_series(0, 2 * p_size - 1) n ORDER BY n);
        keys := ARRAY(SELECT 'transfer:usr_' || left(md5(random()::text), 26) || ':' || encode(sha256(random()::text::bytea), 'hex')
                      FROM generate_series(1, p_size));
        refs := ARRAY(SELECT 'trf_' || left(md5(key), 26) FROM unnest(keys) AS key);
        began := clock_timestamp();
        PERFORM ledger.post_v1(wallets, keys, hashes, kinds, refs, metadata, instants, sizes, postings, accounts, amounts);
        spent_s := spent_s + extract(epoch FROM clock_timestamp() - began);
        COMMIT;
    END LOOP;
END $$;

-- What is on the disk for the ledger's transactions, by table: rows, and indexes.
CREATE VIEW bench.sizes AS
SELECT CASE WHEN c.relname LIKE 'entries%' THEN 'entries' ELSE c.relname END AS relation,
       sum(pg_table_size(c.oid)) AS rows, sum(pg_indexes_size(c.oid)) AS indexes
FROM pg_class c
WHERE c.relnamespace = 'ledger'::regnamespace AND c.relkind = 'r'
  AND (c.relname LIKE 'entries%' OR c.relname IN ('transactions', 'unsealed'))
GROUP BY 1 ORDER BY 1;
