-- The one writer of the ledger. Opens accounts that do not exist yet, moves the balances in account order (so that
-- two postings never wait for each other in a circle), writes the entries in one statement.
-- The same key with the same request returns the first result (`replayed`); with another request it raises LG007.
-- LG008: legs that are no posting. LG009: an account known under another kind or floor.

CREATE FUNCTION ledger.post_v1(
    p_id text, p_key text, p_request_hash bytea, p_kind text, p_reference text, p_metadata jsonb,
    p_happened_at timestamptz, p_codes text[], p_currencies text[], p_kinds text[], p_floors numeric[], p_amounts numeric[]
) RETURNS TABLE (transaction_id text, recorded_at timestamptz, replayed boolean)
LANGUAGE plpgsql SET search_path = ledger, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known     ledger.transactions;
    leg       record;
    moved     ledger.balances;
    accounts_ bigint[] := '{}';
    sequences bigint[] := '{}';
    currencies_ text[] := '{}';
    amounts   numeric[] := '{}';
    after_    numeric[] := '{}';
BEGIN
    IF cardinality(p_codes) < 2 OR EXISTS (
        SELECT FROM unnest(p_currencies, p_amounts) AS l(currency, amount) LEFT JOIN currencies c ON c.code = l.currency
        WHERE c.code IS NULL OR l.amount IS NULL OR l.amount = 0 OR scale(trim_scale(l.amount)) > c.exponent
    ) OR EXISTS (
        SELECT FROM unnest(p_codes, p_currencies) AS l(code, currency) GROUP BY code, currency HAVING count(*) > 1
    ) THEN
        RAISE EXCEPTION 'not a posting' USING ERRCODE = 'LG008';
    END IF;

    INSERT INTO transactions (id, key, request_hash, kind, reference, metadata, happened_at)
    VALUES (p_id, p_key, p_request_hash, p_kind, p_reference, p_metadata, p_happened_at)
    ON CONFLICT (key) DO NOTHING;
    IF NOT FOUND THEN
        SELECT * INTO STRICT known FROM transactions t WHERE t.key = p_key;
        IF known.request_hash <> p_request_hash THEN
            RAISE EXCEPTION 'key belongs to another posting' USING ERRCODE = 'LG007';
        END IF;
        RETURN QUERY SELECT known.id, known.recorded_at, true;
        RETURN;
    END IF;

    PERFORM ledger.open_accounts_v1(p_codes, p_currencies, p_kinds, p_floors);
    FOR leg IN
        SELECT a.id, a.currency, round(l.amount, c.exponent) AS amount
        FROM unnest(p_codes, p_currencies, p_amounts) AS l(code, currency, amount)
        JOIN accounts a ON a.code = l.code AND a.currency = l.currency
        JOIN currencies c ON c.code = l.currency
        ORDER BY a.id
    LOOP
        UPDATE balances b SET
            credits = b.credits + greatest(leg.amount, 0),
            debits = b.debits + greatest(-leg.amount, 0),
            sequence = b.sequence + 1,
            recorded_at = clock_timestamp()
        WHERE b.account_id = leg.id RETURNING b.* INTO STRICT moved;
        accounts_ := accounts_ || leg.id;
        sequences := sequences || moved.sequence;
        currencies_ := currencies_ || leg.currency;
        amounts := amounts || leg.amount;
        after_ := after_ || (moved.credits - moved.debits)::numeric;
    END LOOP;

    INSERT INTO entries (account_id, sequence, transaction_id, currency, amount, balance_after)
    SELECT l.account_id, l.sequence, p_id, l.currency, l.amount, l.balance_after
    FROM unnest(accounts_, sequences, currencies_, amounts, after_)
        AS l(account_id, sequence, currency, amount, balance_after);
    RETURN QUERY SELECT t.id, t.recorded_at, false FROM transactions t WHERE t.id = p_id;
END $$;

CREATE FUNCTION ledger.open_accounts_v1(p_codes text[], p_currencies text[], p_kinds text[], p_floors numeric[])
RETURNS void LANGUAGE plpgsql SET search_path = ledger, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM unnest(p_codes, p_currencies) AS l(code, currency)
        LEFT JOIN accounts a ON a.code = l.code AND a.currency = l.currency WHERE a.id IS NULL
    ) THEN
        WITH opened AS (
            INSERT INTO accounts (code, currency, kind, floor)
            SELECT l.code, l.currency, l.kind, l.floor
            FROM unnest(p_codes, p_currencies, p_kinds, p_floors) AS l(code, currency, kind, floor)
            ORDER BY l.code
            ON CONFLICT (code, currency) DO NOTHING
            RETURNING id, currency, credit_normal, floor
        )
        INSERT INTO balances (account_id, currency, credit_normal, floor)
        SELECT id, currency, credit_normal, floor FROM opened;
    END IF;
    IF EXISTS (
        SELECT FROM unnest(p_codes, p_currencies, p_kinds, p_floors) AS l(code, currency, kind, floor)
        JOIN accounts a ON a.code = l.code AND a.currency = l.currency
        WHERE a.kind <> l.kind OR a.floor IS DISTINCT FROM l.floor
    ) THEN
        RAISE EXCEPTION 'account is known under another kind or floor' USING ERRCODE = 'LG009';
    END IF;
END $$;
