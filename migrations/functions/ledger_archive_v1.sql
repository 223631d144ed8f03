-- Taking a month of entries out and bringing it back. Only the owner of the tables calls these; ledger/archive.py says in
-- which order. What is archived is always the beginning of the history, so that each account's rest has no hole.
-- LG014: what these refuse.

CREATE FUNCTION ledger.verify_archived_v1() RETURNS trigger LANGUAGE plpgsql SET search_path = ledger, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' AND to_regclass('ledger.entries_' || to_char(NEW.month, 'YYYY_MM')) IS NOT NULL
       OR TG_OP = 'DELETE' AND to_regclass('ledger.entries_' || to_char(OLD.month, 'YYYY_MM')) IS NULL THEN
        RAISE EXCEPTION 'a month is archived when it is gone, and only then' USING ERRCODE = 'LG014';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER archived_months_true AFTER INSERT OR DELETE ON ledger.archived_months
    FOR EACH ROW EXECUTE FUNCTION ledger.verify_archived_v1();
CREATE TRIGGER archived_months_kept BEFORE UPDATE OR TRUNCATE ON ledger.archived_months
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_v1('an archived month stays what it is');
ALTER TABLE ledger.archived_months
    ENABLE ALWAYS TRIGGER archived_months_true, ENABLE ALWAYS TRIGGER archived_months_kept;

-- Drop a month that was written to a file. Waits at most two seconds for those who read or post, who wait meanwhile.
CREATE FUNCTION ledger.archive_month_v1(p_month date, p_entries bigint, p_digest bytea) RETURNS void
LANGUAGE plpgsql SET search_path = ledger, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
    name text := 'entries_' || to_char(p_month, 'YYYY_MM');
    kept bigint;
BEGIN
    EXECUTE format('ALTER TABLE ledger.entries DETACH PARTITION ledger.%I', name);
    EXECUTE format('SELECT count(*) FROM ledger.%I', name) INTO kept;
    IF kept <> p_entries OR octet_length(p_digest) <> 32 THEN
        RAISE EXCEPTION 'the file does not hold the month' USING ERRCODE = 'LG014';
    ELSIF EXISTS (SELECT FROM entries WHERE recorded_at < p_month::timestamptz) THEN
        RAISE EXCEPTION 'older months are archived first' USING ERRCODE = 'LG014';
    ELSIF EXISTS (
        SELECT FROM unsealed u JOIN transactions t ON t.id = u.transaction_id
        WHERE t.recorded_at < (p_month + interval '1 month')::timestamptz
    ) THEN
        RAISE EXCEPTION 'transactions of the month are not sealed' USING ERRCODE = 'LG014';
    ELSIF EXISTS (
        SELECT FROM holds h JOIN transactions t ON t.id = h.id
        WHERE h.captured + h.released < h.amount AND t.recorded_at < (p_month + interval '1 month')::timestamptz
    ) THEN
        RAISE EXCEPTION 'holds of the month are open' USING ERRCODE = 'LG014';
    END IF;
    EXECUTE format('DROP TABLE ledger.%I', name);
    INSERT INTO archived_months (month, entries, digest) VALUES (p_month, p_entries, p_digest);
END $$;

-- The empty table of an archived month, beside the ledger: the file's rows go into it. Returns its name.
CREATE FUNCTION ledger.recreate_month_v1(p_month date) RETURNS text
LANGUAGE plpgsql SET search_path = ledger, pg_temp AS $$
DECLARE
    name text := 'entries_' || to_char(p_month, 'YYYY_MM');
BEGIN
    EXECUTE format('CREATE TABLE ledger.%I (LIKE ledger.entries INCLUDING ALL)', name);
    RETURN name;
END $$;

-- Make it a month of the ledger again.
CREATE FUNCTION ledger.attach_month_v1(p_month date, p_entries bigint) RETURNS void
LANGUAGE plpgsql SET search_path = ledger, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
    name text := 'entries_' || to_char(p_month, 'YYYY_MM');
    kept bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM ledger.%I', name) INTO kept;
    IF kept <> p_entries OR EXISTS (SELECT FROM archived_months WHERE month > p_month) THEN
        RAISE EXCEPTION 'all rows come back, and the newest archived month first' USING ERRCODE = 'LG014';
    END IF;
    EXECUTE format('ALTER TABLE ledger.entries ATTACH PARTITION ledger.%I FOR VALUES FROM (%L) TO (%L)',
                   name, p_month::timestamptz, (p_month + interval '1 month')::timestamptz);
    PERFORM ledger.guard_month_v1(name);
    DELETE FROM archived_months WHERE month = p_month;
END $$;

-- What the jobs read and call, for the role that runs them. The rest is its owner's.
REVOKE EXECUTE ON FUNCTION ledger.seal_v1, ledger.archive_month_v1, ledger.recreate_month_v1, ledger.attach_month_v1
    FROM PUBLIC;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'matchday_app') THEN
        GRANT SELECT ON ledger.blocks, ledger.unsealed, ledger.archived_months TO matchday_app;
        GRANT EXECUTE ON FUNCTION ledger.seal_v1, ledger.block_hash_v1, ledger.ensure_months_v1 TO matchday_app;
    END IF;
END $$;
