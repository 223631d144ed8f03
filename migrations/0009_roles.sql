-- What the application may do: call the ledger's functions and read it, and its own tables in public. No table of the
-- ledger, nothing to create, no temporary table that could stand in front of one.
-- depends: 0008_ledger_chain_functions
-- A deployment makes its login with: CREATE ROLE matchday LOGIN PASSWORD '…' IN ROLE matchday_app.

DO $$
BEGIN
    CREATE ROLE matchday_app NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;    -- roles belong to the server, not to a database
    WHEN insufficient_privilege THEN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'matchday_app') THEN
            RAISE EXCEPTION 'Run CREATE ROLE matchday_app NOLOGIN as an administrator, then migrate again.';
        END IF;
END $$;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA ledger FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA ledger REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT USAGE ON SCHEMA ledger TO matchday_app;
GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO matchday_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA ledger GRANT SELECT ON TABLES TO matchday_app;
GRANT EXECUTE ON FUNCTION ledger.post_v1, ledger.open_accounts_v1, ledger.change_account_v1, ledger.transaction_id, ledger.ensure_months_v1,
    ledger.seal_v1, ledger.block_hash_v1 TO matchday_app;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO matchday_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO matchday_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO matchday_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO matchday_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO matchday_app;

DO $$
BEGIN
    EXECUTE format('REVOKE TEMPORARY, CREATE ON DATABASE %I FROM PUBLIC', current_database());
END $$;
