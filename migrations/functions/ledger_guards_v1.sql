-- What holds even for somebody who writes SQL by hand: history is append-only, transactions are sealed and
-- balanced, balances follow their entries. SQLSTATE class LG is the ledger's own.

CREATE FUNCTION ledger.refuse_change_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger history is append-only' USING ERRCODE = 'LG001';
END $$;

CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.entries
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change_v1();
CREATE TRIGGER transactions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.transactions
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change_v1();
CREATE TRIGGER balances_kept BEFORE DELETE OR TRUNCATE ON ledger.balances
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change_v1();
CREATE TRIGGER accounts_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.accounts
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change_v1();

-- A balance moves one entry at a time and to one side; what it belongs to never changes.
CREATE FUNCTION ledger.verify_move_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.account_id, NEW.currency, NEW.credit_normal, NEW.floor)
           IS DISTINCT FROM (OLD.account_id, OLD.currency, OLD.credit_normal, OLD.floor)
       OR NEW.sequence <> OLD.sequence + 1
       OR NOT (NEW.credits > OLD.credits AND NEW.debits = OLD.debits
               OR NEW.debits > OLD.debits AND NEW.credits = OLD.credits) THEN
        RAISE EXCEPTION 'a balance moves by one entry' USING ERRCODE = 'LG006';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER balances_moved BEFORE UPDATE ON ledger.balances
    FOR EACH ROW EXECUTE FUNCTION ledger.verify_move_v1();

-- Entries come in whole transactions, each in one statement: what the statement brought must balance, must
-- belong to a transaction that this database transaction made, and must continue each account's history.
CREATE FUNCTION ledger.verify_entries_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM added GROUP BY transaction_id, currency HAVING sum(amount) <> 0) THEN
        RAISE EXCEPTION 'entries do not sum to zero' USING ERRCODE = 'LG002';
    END IF;
    IF EXISTS (SELECT FROM added a JOIN ledger.transactions t ON t.id = a.transaction_id
               WHERE t.xid <> pg_current_xact_id()) THEN
        RAISE EXCEPTION 'transaction is sealed' USING ERRCODE = 'LG003';
    END IF;
    IF EXISTS (SELECT FROM added a
               LEFT JOIN ledger.entries p ON p.account_id = a.account_id AND p.sequence = a.sequence - 1
               WHERE a.balance_after <> coalesce(p.balance_after, 0) + a.amount
                  OR (a.sequence > 1 AND p.account_id IS NULL)) THEN
        RAISE EXCEPTION 'running balance is broken' USING ERRCODE = 'LG004';
    END IF;
    IF EXISTS (SELECT FROM added a JOIN ledger.balances b USING (account_id)
               WHERE b.currency <> a.currency) THEN
        RAISE EXCEPTION 'currency of entry and account differ' USING ERRCODE = 'LG005';
    END IF;
    -- The balance moves first; that it moved to the right amount is checked at commit.
    IF EXISTS (SELECT FROM added a JOIN ledger.balances b USING (account_id)
               WHERE b.sequence < a.sequence) THEN
        RAISE EXCEPTION 'balance differs from its entries' USING ERRCODE = 'LG006';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER entries_verified AFTER INSERT ON ledger.entries REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.verify_entries_v1();

-- At commit a balance is what its last entry says, and nothing else.
CREATE FUNCTION ledger.verify_balance_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    now_balance ledger.balances;
    last_entry  ledger.entries;
BEGIN
    SELECT * INTO now_balance FROM ledger.balances WHERE account_id = NEW.account_id;
    SELECT * INTO last_entry FROM ledger.entries WHERE account_id = NEW.account_id ORDER BY sequence DESC LIMIT 1;
    IF now_balance.sequence <> coalesce(last_entry.sequence, 0)
       OR now_balance.credits - now_balance.debits <> coalesce(last_entry.balance_after, 0) THEN
        RAISE EXCEPTION 'balance differs from its entries' USING ERRCODE = 'LG006';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER balances_verified AFTER INSERT OR UPDATE ON ledger.balances
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger.verify_balance_v1();

-- Balanced at commit also means: no transaction without entries.
CREATE FUNCTION ledger.verify_transaction_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM ledger.entries WHERE transaction_id = NEW.id) THEN
        RAISE EXCEPTION 'transaction without entries' USING ERRCODE = 'LG002';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER transactions_verified AFTER INSERT ON ledger.transactions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger.verify_transaction_v1();
