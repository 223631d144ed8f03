-- What holds even for somebody who writes SQL by hand, and for a mistake in the function that posts. History is
-- append-only; entries come in whole, balanced transactions that continue each account; balances follow their entries
-- and nothing else. SQLSTATE class LG is the ledger's own. Every trigger is ENABLE ALWAYS: session_replication_role
-- does not switch it off.

CREATE FUNCTION ledger.refuse_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'LG001', TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA;
END $$;

CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.entries
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_v1('ledger history is append-only');
CREATE TRIGGER transactions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.transactions
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_v1('ledger history is append-only');
CREATE TRIGGER accounts_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.accounts
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_v1('an account stays what it is');
CREATE TRIGGER account_changes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.account_changes
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_v1('ledger history is append-only');
CREATE TRIGGER currencies_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.currencies
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_v1('a currency stays what it is');
CREATE TRIGGER balances_kept BEFORE DELETE OR TRUNCATE ON ledger.balances
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_v1('a balance stays');
CREATE TRIGGER holds_kept BEFORE DELETE OR TRUNCATE ON ledger.holds
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_v1('a hold stays');

-- An account brings its balance row, so that none is ever without one, and none is opened above zero.
CREATE FUNCTION ledger.open_balance_v1() RETURNS trigger LANGUAGE plpgsql SET search_path = ledger, pg_temp AS $$
BEGIN
    INSERT INTO balances (account_id, currency, exponent, credit_normal, floor, ceiling)
    SELECT NEW.id, c.code, c.exponent, NEW.credit_normal, NEW.floor, NEW.ceiling
    FROM currencies c WHERE c.code = NEW.currency;
    RETURN NULL;
END $$;

CREATE TRIGGER accounts_open_balance AFTER INSERT ON ledger.accounts
    FOR EACH ROW EXECUTE FUNCTION ledger.open_balance_v1();
CREATE TRIGGER balances_opened BEFORE INSERT ON ledger.balances FOR EACH ROW
    WHEN (NEW.sequence <> 0 OR NEW.change_id IS NOT NULL OR NEW.status <> 'open'
          OR (NEW.credits, NEW.debits, NEW.pending_credits, NEW.pending_debits) IS DISTINCT FROM (0, 0, 0, 0))
    EXECUTE FUNCTION ledger.refuse_v1('a balance opens at zero');

-- Three guards look at a posting, each at what it has at hand, so that every row is read once more and no more often:
-- this one at the entries of a statement (whole transactions, balanced in each currency), the next at the balances that
-- follow from them (each entry continues its account), the last at the headers. All name a span of time around the present
-- for what they look up, so that the number of months does not matter. Entries are recorded now: see below, LG011.
CREATE FUNCTION ledger.follow_entries_v1() RETURNS trigger LANGUAGE plpgsql
SET search_path = ledger, pg_temp SET enable_seqscan = off AS $$
DECLARE
    follows  boolean;
    balanced boolean;
    known    boolean;
    whole    boolean;
    held     boolean;
    expected int;
    resolved int;
BEGIN
    WITH span AS (
        SELECT account_id, min(recorded_at) AS first, max(recorded_at) AS last FROM added GROUP BY account_id
    ), moved AS (
        UPDATE balances b SET sequence = l.sequence, recorded_at = l.recorded_at, credits = l.credits, debits = l.debits,
            pending_credits = l.pending_credits, pending_debits = l.pending_debits
        FROM span s JOIN added l ON l.account_id = s.account_id AND l.recorded_at = s.last
        WHERE b.account_id = s.account_id AND b.recorded_at < s.first
        RETURNING 1
    ), part AS (
        SELECT transaction_id, recorded_at, happened_at, count(*) AS lines, array_agg(account_id) AS accounts,
               sum(amount) AS posted, sum(pending_credit - pending_debit) AS outstanding,
               bool_or(pending_debit <> 0 OR pending_credit <> 0) AS pending
        FROM added GROUP BY transaction_id, recorded_at, happened_at, currency
    )
    SELECT (SELECT count(*) FROM moved) = (SELECT count(*) FROM span), bool_and(p.posted = 0 AND p.outstanding = 0),
           bool_and((p.accounts <@ t.accounts) IS TRUE), bool_and(p.lines = cardinality(t.accounts)), bool_or(p.pending)
    INTO follows, balanced, known, whole, held
    FROM part p LEFT JOIN LATERAL (
        SELECT t.accounts FROM transactions t
        WHERE t.id = p.transaction_id AND t.recorded_at = p.recorded_at AND t.happened_at = p.happened_at OFFSET 0
    ) t ON true;
    IF NOT balanced THEN
        RAISE EXCEPTION 'entries do not sum to zero' USING ERRCODE = 'LG002';
    ELSIF NOT known OR NOT whole AND EXISTS (       -- a transaction in several currencies has several parts
        SELECT FROM added a CROSS JOIN LATERAL (SELECT * FROM transactions t WHERE t.id = a.transaction_id OFFSET 0) t
        GROUP BY t.id, t.accounts HAVING count(*) <> cardinality(t.accounts)
    ) THEN
        RAISE EXCEPTION 'entries are all of their transaction, and come with it' USING ERRCODE = 'LG003';
    ELSIF NOT follows THEN
        RAISE EXCEPTION 'an entry continues its account' USING ERRCODE = 'LG004';
    END IF;

    IF held THEN
        -- Pending money belongs to a hold, between its two accounts. Placing is +X pending on both. Resolving is -X pending
        -- on both, of which Y <= X is captured, that is posted from source to target; the rest is released.
        WITH move AS (
            SELECT t.id, t.hold_id, t.expires_at, t.hold_group, sum(a.pending_debit) AS pending, max(abs(a.amount)) AS posted,
                   max(a.account_id) FILTER (WHERE a.pending_debit <> 0) AS source,
                   max(a.account_id) FILTER (WHERE a.pending_credit <> 0) AS target
            FROM added a CROSS JOIN LATERAL (SELECT * FROM transactions t WHERE t.id = a.transaction_id OFFSET 0) t
            WHERE a.transaction_id IN (SELECT transaction_id FROM added WHERE pending_debit <> 0 OR pending_credit <> 0)
            GROUP BY t.id, t.hold_id, t.expires_at, t.hold_group
            HAVING count(*) = 2 AND bool_and(CASE WHEN a.pending_debit <> 0 THEN a.pending_credit = 0 AND a.amount <= 0
                                                  ELSE a.pending_credit <> 0 AND a.amount >= 0 END)
        ), placed AS (
            INSERT INTO holds (id, source, target, amount, expires_at, hold_group)
            SELECT id, source, target, pending, expires_at, hold_group FROM move
            WHERE hold_id = id AND pending > 0 AND posted = 0
            RETURNING 1
        ), resolved AS (
            UPDATE holds h SET captured = h.captured + m.captured, released = h.released + m.pending - m.captured
            FROM (SELECT hold_id, source, target, sum(-pending) AS pending, sum(posted) AS captured, count(*) AS moves
                  FROM move WHERE hold_id <> id AND pending < 0 AND posted <= -pending
                  GROUP BY hold_id, source, target) m
            WHERE h.id = m.hold_id AND h.source = m.source AND h.target = m.target
            RETURNING m.moves
        )
        SELECT (SELECT count(*) FROM placed) + (SELECT coalesce(sum(moves), 0) FROM resolved) INTO resolved;
        SELECT count(DISTINCT transaction_id) INTO expected FROM added WHERE pending_debit <> 0 OR pending_credit <> 0;
        IF resolved <> expected THEN
            RAISE EXCEPTION 'pending money belongs to a hold' USING ERRCODE = 'LG012';
        END IF;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER entries_followed AFTER INSERT ON ledger.entries REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.follow_entries_v1();

-- What a balance belongs to never changes. Its counters move only together with its sequence, by entries that continue one
-- another from what it was to what it is. Held money is not available, so capturing a hold can never break the floor.
-- Status and limits change by a row of account_changes.
CREATE FUNCTION ledger.verify_balances_v1() RETURNS trigger LANGUAGE plpgsql
SET search_path = ledger, pg_temp SET enable_seqscan = off AS $$
DECLARE
    same    boolean;
    follows boolean;
    exact   boolean;
    allowed boolean;
    timely  boolean;
    within  boolean;
    changed boolean;
BEGIN
    SELECT bool_and(m.same), bool_and(m.follows AND (m.more OR m.arrived) IS TRUE), bool_and(m.exact), bool_and(m.allowed),
           bool_and(m.timely), bool_and(m.within), bool_or(m.changed)
    INTO same, follows, exact, allowed, timely, within, changed
    FROM (
        SELECT (n.currency = o.currency AND n.exponent = o.exponent AND n.credit_normal = o.credit_normal) IS TRUE AS same,
               CASE WHEN e.sequence IS NULL THEN n.sequence = o.sequence AND n.recorded_at = o.recorded_at
                         AND n.credits = o.credits AND n.debits = o.debits
                         AND n.pending_credits = o.pending_credits AND n.pending_debits = o.pending_debits
                    ELSE e.sequence = lag(e.sequence, 1, o.sequence) OVER history + 1
                         AND e.credits = lag(e.credits, 1, o.credits) OVER history + greatest(e.amount, 0)
                         AND e.debits = lag(e.debits, 1, o.debits) OVER history - least(e.amount, 0)
                         AND e.pending_credits = lag(e.pending_credits, 1, o.pending_credits) OVER history + e.pending_credit
                         AND e.pending_debits = lag(e.pending_debits, 1, o.pending_debits) OVER history + e.pending_debit
                         AND e.currency = n.currency END AS follows,
               lead(true) OVER history AS more,
               e.sequence IS NULL OR e.sequence = n.sequence AND e.recorded_at = n.recorded_at
                   AND e.credits = n.credits AND e.debits = n.debits
                   AND e.pending_credits = n.pending_credits AND e.pending_debits = n.pending_debits AS arrived,
               abs(e.amount) < 1000000000000000 AND abs(e.pending_debit) < 1000000000000000
                   AND abs(e.pending_credit) < 1000000000000000 AND (e.amount <> 0 OR e.pending_debit <> 0 OR e.pending_credit <> 0)
                   AND scale(trim_scale(e.amount)) <= n.exponent AND scale(trim_scale(e.pending_debit)) <= n.exponent
                   AND scale(trim_scale(e.pending_credit)) <= n.exponent AS exact,
               e.sequence IS NULL OR n.status = 'open' OR n.status = 'frozen' AND CASE
                   WHEN n.credit_normal THEN e.amount >= e.pending_debit ELSE e.amount <= -e.pending_credit END AS allowed,
               e.recorded_at >= clock_timestamp() - interval '1 minute'
                   AND e.recorded_at <= greatest(clock_timestamp(), o.recorded_at) + interval '1 second' AS timely,
               n.pending_credits >= 0 AND n.pending_debits >= 0
                   AND (CASE WHEN n.credit_normal THEN n.credits - n.debits - n.pending_debits
                             ELSE n.debits - n.credits - n.pending_credits END >= n.floor) IS NOT FALSE
                   AND (CASE WHEN n.credit_normal THEN n.credits - n.debits + n.pending_credits
                             ELSE n.debits - n.credits + n.pending_debits END <= n.ceiling) IS NOT FALSE AS within,
               (n.change_id, n.status, n.floor, n.ceiling)
                   IS DISTINCT FROM (o.change_id, o.status, o.floor, o.ceiling) AS changed
        FROM moved n
        LEFT JOIN was o ON o.account_id = n.account_id
        LEFT JOIN LATERAL (
            SELECT * FROM entries e
            WHERE e.account_id = n.account_id AND e.recorded_at > o.recorded_at AND e.recorded_at <= n.recorded_at
              AND e.recorded_at > statement_timestamp() - interval '1 hour'
              AND e.recorded_at < statement_timestamp() + interval '1 hour' OFFSET 0
        ) e ON true
        WINDOW history AS (PARTITION BY n.account_id ORDER BY e.recorded_at)
    ) m;
    IF NOT (same AND follows) THEN
        RAISE EXCEPTION 'a balance is what its last entry says, and that continues the one before' USING ERRCODE = 'LG006';
    ELSIF NOT exact THEN
        RAISE EXCEPTION 'an amount is finite, not zero and has no more places than its currency' USING ERRCODE = 'LG008';
    ELSIF NOT allowed THEN
        RAISE EXCEPTION 'the account is frozen or closed' USING ERRCODE = 'LG010';
    ELSIF NOT timely THEN
        RAISE EXCEPTION 'entries are recorded now' USING ERRCODE = 'LG011';
    ELSIF NOT within THEN
        RAISE EXCEPTION 'a balance stays between floor and ceiling' USING ERRCODE = 'LG007';
    ELSIF changed AND EXISTS (
        SELECT FROM moved n JOIN was o ON o.account_id = n.account_id
        LEFT JOIN account_changes c ON c.id = n.change_id AND c.account_id = n.account_id
        WHERE (n.change_id, n.status, n.floor, n.ceiling) IS DISTINCT FROM (o.change_id, o.status, o.floor, o.ceiling)
          AND ((c.id > coalesce(o.change_id, 0)) IS NOT TRUE
               OR (c.status, c.floor::numeric, c.ceiling::numeric) IS DISTINCT FROM (n.status, n.floor, n.ceiling)
               OR n.status = 'closed' AND (n.credits <> n.debits OR n.pending_credits <> 0 OR n.pending_debits <> 0))
    ) THEN
        RAISE EXCEPTION 'a change of an account is written down, and an account closes at zero' USING ERRCODE = 'LG010';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER balances_verified AFTER UPDATE ON ledger.balances REFERENCING OLD TABLE AS was NEW TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.verify_balances_v1();

-- A transaction comes in one statement with its entries; a reversal is its original with the signs turned.
CREATE FUNCTION ledger.verify_transactions_v1() RETURNS trigger LANGUAGE plpgsql
SET search_path = ledger, pg_temp SET enable_seqscan = off AS $$
DECLARE
    whole    boolean;
    sound    boolean;
    reversed boolean;
BEGIN
    SELECT bool_and(e.transaction_id = t.id) AND count(e.transaction_id) = count(*),
           bool_and(t.happened_at <= t.recorded_at AND octet_length(t.request_hash) = 32
                    AND length(t.key) BETWEEN 1 AND 200 AND t.key !~ '[^!-\[\]-~]'      -- no backslash: see transaction_id
                    AND length(t.kind) BETWEEN 1 AND 50 AND t.kind !~ '[^a-z_]'
                    AND length(t.reference) <= 200 AND coalesce(length(t.hold_group) BETWEEN 1 AND 200, true)
                    AND jsonb_typeof(t.metadata) = 'object'),
           bool_or(t.reverses IS NOT NULL)
    INTO whole, sound, reversed
    FROM added t LEFT JOIN LATERAL (
        SELECT e.transaction_id FROM entries e
        WHERE e.account_id = t.accounts[1] AND e.recorded_at = t.recorded_at
          AND e.recorded_at > statement_timestamp() - interval '1 hour'
          AND e.recorded_at < statement_timestamp() + interval '1 hour' OFFSET 0
    ) e ON true;
    IF NOT whole THEN
        RAISE EXCEPTION 'a transaction comes with its entries' USING ERRCODE = 'LG002';
    ELSIF NOT sound THEN
        RAISE EXCEPTION 'a transaction has a key, a kind, a hash, and happened before it was recorded' USING ERRCODE = 'LG008';
    END IF;
    IF reversed AND EXISTS (
        SELECT FROM added t LEFT JOIN LATERAL (SELECT * FROM transactions o WHERE o.id = t.reverses OFFSET 0) o ON true
        WHERE t.reverses IS NOT NULL AND (
            o.id IS NULL OR o.recorded_at >= t.recorded_at OR o.reverses IS NOT NULL OR o.hold_id IS NOT NULL
            OR o.accounts <> t.accounts
            OR cardinality(o.accounts) <> (
                SELECT count(*) FROM unnest(o.accounts) AS l(account)
                CROSS JOIN LATERAL (
                    SELECT amount FROM entries e WHERE e.account_id = l.account AND e.recorded_at = o.recorded_at OFFSET 0) a
                CROSS JOIN LATERAL (
                    SELECT amount FROM entries e WHERE e.account_id = l.account AND e.recorded_at = t.recorded_at OFFSET 0) b
                WHERE b.amount = -a.amount))
    ) THEN
        RAISE EXCEPTION 'a reversal is its original turned round' USING ERRCODE = 'LG005';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER transactions_verified AFTER INSERT ON ledger.transactions REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.verify_transactions_v1();

-- A hold is what its transactions made of it.
CREATE FUNCTION ledger.verify_hold_v1() RETURNS trigger LANGUAGE plpgsql
SET search_path = ledger, pg_temp SET enable_seqscan = off AS $$
DECLARE
    made record;
BEGIN
    SELECT sum(e.pending_debit) FILTER (WHERE t.id = NEW.id) AS amount,
           coalesce(sum(-e.amount) FILTER (WHERE t.id <> NEW.id), 0) AS captured,
           coalesce(sum(-e.pending_debit) FILTER (WHERE t.id <> NEW.id), 0) AS resolved,
           bool_or(t.id = NEW.id AND NEW.target = ANY (t.accounts) AND NEW.target <> NEW.source
                   AND NEW.expires_at = t.expires_at AND NEW.hold_group IS NOT DISTINCT FROM t.hold_group) AS as_placed
    INTO made
    FROM (SELECT * FROM transactions t WHERE t.hold_id = NEW.id OFFSET 0) t CROSS JOIN LATERAL (
        SELECT * FROM entries e WHERE e.account_id = NEW.source AND e.recorded_at = t.recorded_at OFFSET 0) e;
    IF (NEW.amount, NEW.captured, NEW.captured + NEW.released, true)
       IS DISTINCT FROM (made.amount, made.captured, made.resolved, made.as_placed) THEN
        RAISE EXCEPTION 'a hold is what its transactions made of it' USING ERRCODE = 'LG012';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER holds_verified AFTER INSERT OR UPDATE ON ledger.holds
    FOR EACH ROW EXECUTE FUNCTION ledger.verify_hold_v1();

DO $$
DECLARE
    guard record;
BEGIN
    FOR guard IN SELECT tgrelid::regclass AS at, tgname FROM pg_trigger
                 WHERE NOT tgisinternal AND tgrelid::regclass::text LIKE 'ledger.%' LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', guard.at, guard.tgname);
    END LOOP;
END $$;
