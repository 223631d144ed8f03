-- name: post^
-- Any number of postings, each decided in its turn; outcomes and balances as parallel arrays.
SELECT outcomes, ids, recorded, amounts, sequences, credits, debits, pending_credits, pending_debits
FROM ledger.post_v1(
    :accounts, :keys, :hashes, :kinds, :references, :metadata, :happened_at, :sizes, :leg_postings, :leg_accounts, :amounts,
    :links, :reverses, :up_to, :holds, :expires_at, :groups, :pending_debits, :pending_credits,
    :at_least, :at_most, :versions);

-- name: open_accounts^
-- The ids of accounts, opened where they are missing, and whether each is there for good.
SELECT ids, lasting FROM ledger.open_accounts_v1(:codes, :currencies, :kinds, :floors, :ceilings);

-- name: hold^
-- A hold with its two accounts.
SELECT h.id, s.currency, s.code AS source_code, s.kind AS source_kind, s.floor AS source_floor, s.ceiling AS source_ceiling,
       t.code AS target_code, t.kind AS target_kind, t.floor AS target_floor, t.ceiling AS target_ceiling
FROM ledger.holds h JOIN ledger.accounts s ON s.id = h.source JOIN ledger.accounts t ON t.id = h.target
WHERE h.id = :id;

-- name: open_holds_of_group*
-- What is left of the holds that are resolved together.
SELECT h.id, h.amount - h.captured - h.released AS left,
       s.currency, s.code AS source_code, s.kind AS source_kind, s.floor AS source_floor, s.ceiling AS source_ceiling,
       t.code AS target_code, t.kind AS target_kind, t.floor AS target_floor, t.ceiling AS target_ceiling
FROM ledger.holds h JOIN ledger.accounts s ON s.id = h.source JOIN ledger.accounts t ON t.id = h.target
WHERE h.hold_group = :group AND h.captured + h.released < h.amount
ORDER BY h.id;

-- name: transaction_legs*
-- The entries of a transaction with their accounts.
SELECT t.reverses, t.hold_id, a.code, a.currency, a.kind, a.floor, a.ceiling, e.amount
FROM ledger.transactions t
CROSS JOIN LATERAL unnest(t.accounts) AS l(account_id)
CROSS JOIN LATERAL (
    SELECT * FROM ledger.entries e WHERE e.account_id = l.account_id AND e.recorded_at = t.recorded_at OFFSET 0
) e
CROSS JOIN LATERAL (SELECT * FROM ledger.accounts a WHERE a.id = e.account_id OFFSET 0) a
WHERE t.id = :id
ORDER BY a.id;

-- name: change_account$
-- Freeze, thaw, close or limit an account; the number of the change.
SELECT ledger.change_account_v1(:code, :currency, :status, :floor, :ceiling, :actor, :reason);

-- name: unbalanced_transactions*
-- Transactions whose entries are not all there, or do not sum to zero in some currency, posted or pending.
SELECT t.id FROM ledger.transactions t
LEFT JOIN ledger.entries e ON e.transaction_id = t.id AND e.recorded_at = t.recorded_at
LEFT JOIN ledger.accounts a ON a.id = e.account_id
WHERE NOT EXISTS (SELECT FROM ledger.archived_months m WHERE m.month = date_trunc('month', t.recorded_at AT TIME ZONE 'UTC'))
GROUP BY t.id HAVING count(e.account_id) <> cardinality(t.accounts) OR count(e.account_id) < 2
    OR EXISTS (SELECT FROM ledger.entries f JOIN ledger.accounts b ON b.id = f.account_id
               WHERE f.account_id = ANY (t.accounts) AND f.recorded_at = t.recorded_at
               GROUP BY b.currency HAVING sum(f.amount) <> 0 OR sum(f.pending_credit - f.pending_debit) <> 0)
ORDER BY t.id LIMIT 100;

-- name: stray_entries*
-- Entries whose transaction does not exist or does not know them, or in another currency than their account.
SELECT e.account_id, e.sequence FROM ledger.entries e
LEFT JOIN ledger.transactions t ON t.id = e.transaction_id
LEFT JOIN ledger.accounts a ON a.id = e.account_id
WHERE (e.account_id = ANY (t.accounts) AND t.recorded_at = e.recorded_at AND t.happened_at = e.happened_at
       AND a.currency = e.currency) IS NOT TRUE
ORDER BY e.account_id, e.sequence LIMIT 100;

-- name: broken_histories*
-- Entries that do not continue the one before, or with a hole before them. The first that is kept is believed.
SELECT account_id, sequence FROM (
    SELECT e.*, lag(sequence) OVER h AS s, lag(recorded_at) OVER h AS r, lag(credits) OVER h AS c, lag(debits) OVER h AS d,
           lag(pending_credits) OVER h AS pc, lag(pending_debits) OVER h AS pd
    FROM ledger.entries e WINDOW h AS (PARTITION BY account_id ORDER BY recorded_at)
) e
WHERE CASE WHEN s IS NULL AND sequence = 1
    THEN (credits, debits, pending_credits, pending_debits)
         <> (greatest(amount, 0), -least(amount, 0), pending_credit, pending_debit)
    WHEN s IS NULL THEN NOT EXISTS (SELECT FROM ledger.archived_months)
    ELSE (sequence, credits, debits, pending_credits, pending_debits)
         <> (s + 1, c + greatest(amount, 0), d - least(amount, 0), pc + pending_credit, pd + pending_debit) END
ORDER BY account_id, sequence LIMIT 100;

-- name: wrong_balances*
-- Accounts whose balance row is not what their last entry says.
SELECT a.code, a.currency FROM ledger.accounts a
LEFT JOIN ledger.balances b ON b.account_id = a.id
LEFT JOIN LATERAL (
    SELECT * FROM ledger.entries e WHERE e.account_id = a.id ORDER BY recorded_at DESC LIMIT 1
) e ON true
WHERE (b.currency, b.credit_normal) IS DISTINCT FROM (a.currency, a.credit_normal)
   OR (b.sequence, b.credits, b.debits, b.pending_credits, b.pending_debits) IS DISTINCT FROM
      (coalesce(e.sequence, 0), coalesce(e.credits, 0), coalesce(e.debits, 0), coalesce(e.pending_credits, 0),
       coalesce(e.pending_debits, 0))
   AND (e.sequence IS NOT NULL OR NOT EXISTS (SELECT FROM ledger.archived_months))
ORDER BY a.code LIMIT 100;

-- name: accounts_out_of_limits*
-- Accounts below their floor, above their ceiling, or with limits and a status that nobody wrote down.
SELECT a.code, a.currency FROM ledger.accounts a JOIN ledger.balances b ON b.account_id = a.id
LEFT JOIN ledger.account_changes c ON c.id = b.change_id
WHERE CASE WHEN a.credit_normal THEN b.credits - b.debits - b.pending_debits
           ELSE b.debits - b.credits - b.pending_credits END < b.floor
   OR CASE WHEN a.credit_normal THEN b.credits - b.debits + b.pending_credits
           ELSE b.debits - b.credits + b.pending_debits END > b.ceiling
   OR (b.status, b.floor, b.ceiling) IS DISTINCT FROM
      CASE WHEN b.change_id IS NULL THEN ('open'::text, a.floor::numeric, a.ceiling::numeric)
           ELSE (c.status, c.floor::numeric, c.ceiling::numeric) END
ORDER BY a.code LIMIT 100;

-- name: wrong_holds*
-- Accounts whose pending money is not what their open holds add up to.
SELECT a.code, a.currency FROM ledger.accounts a JOIN ledger.balances b ON b.account_id = a.id
LEFT JOIN (SELECT source, sum(amount - captured - released) AS held FROM ledger.holds
           WHERE captured + released < amount GROUP BY source) s ON s.source = a.id
LEFT JOIN (SELECT target, sum(amount - captured - released) AS held FROM ledger.holds
           WHERE captured + released < amount GROUP BY target) t ON t.target = a.id
WHERE (b.pending_debits, b.pending_credits) <> (coalesce(s.held, 0), coalesce(t.held, 0))
ORDER BY a.code LIMIT 100;

-- name: unbalanced_books*
-- Currencies in which all accounts together do not sum to zero.
SELECT b.currency FROM ledger.balances b
GROUP BY b.currency HAVING sum(b.credits - b.debits) <> 0 OR sum(b.pending_credits - b.pending_debits) <> 0;

-- name: rows_without_a_month$
-- How many entries lie in the partition that should be empty.
SELECT count(*) FROM ledger.entries_default;

-- name: may_write$
-- Whether this login could write the ledger without its functions.
SELECT has_table_privilege('ledger.entries', 'INSERT');
