-- name: post^
-- One balanced transaction, or the one that the key wrote before.
SELECT transaction_id, recorded_at, replayed
FROM ledger.post_v1(
    :id, :key, :request_hash, :kind, :reference, :metadata, :happened_at,
    :codes, :currencies, :kinds, :floors, :amounts);

-- name: balance^
-- An account's balance on its normal side; no row for an account that no posting opened yet.
SELECT CASE WHEN a.credit_normal THEN b.credits - b.debits ELSE b.debits - b.credits END AS balance, b.sequence, b.recorded_at
FROM ledger.accounts a JOIN ledger.balances b ON b.account_id = a.id
WHERE a.code = :code AND a.currency = :currency;

-- name: entries_before*
-- A page of an account's entries, newest first, below a sequence number.
SELECT e.sequence, e.amount, e.balance_after, e.recorded_at, t.id AS transaction_id, t.kind, t.reference, t.happened_at
FROM ledger.accounts a
JOIN ledger.entries e ON e.account_id = a.id
JOIN ledger.transactions t ON t.id = e.transaction_id
WHERE a.code = :code AND a.currency = :currency AND e.sequence < :before
ORDER BY e.sequence DESC
LIMIT :limit;

-- name: unbalanced_transactions*
-- Transactions whose entries do not sum to zero in some currency, or that have fewer than two.
SELECT t.id FROM ledger.transactions t LEFT JOIN ledger.entries e ON e.transaction_id = t.id
GROUP BY t.id, e.currency HAVING coalesce(sum(e.amount), 0) <> 0 OR count(e.amount) < 2
ORDER BY t.id LIMIT 100;

-- name: wrong_balances*
-- Accounts whose balance row is not what their entries add up to.
SELECT a.code, a.currency FROM ledger.accounts a
JOIN ledger.balances b ON b.account_id = a.id
LEFT JOIN LATERAL (
    SELECT coalesce(sum(amount) FILTER (WHERE amount > 0), 0) AS credits,
           coalesce(-sum(amount) FILTER (WHERE amount < 0), 0) AS debits,
           count(*) AS entries
    FROM ledger.entries e WHERE e.account_id = a.id
) s ON true
WHERE (b.credits, b.debits, b.sequence) IS DISTINCT FROM (s.credits, s.debits, s.entries)
   OR b.floor IS DISTINCT FROM a.floor OR b.currency <> a.currency
ORDER BY a.code LIMIT 100;

-- name: broken_histories*
-- Entries whose balance does not continue the one before, or with a hole before them.
SELECT account_id, sequence FROM (
    SELECT account_id, sequence, amount, balance_after,
           lag(sequence, 1, 0::bigint) OVER history AS previous_sequence,
           lag(balance_after::numeric, 1, 0::numeric) OVER history AS previous_balance
    FROM ledger.entries WINDOW history AS (PARTITION BY account_id ORDER BY sequence)
) e
WHERE sequence <> previous_sequence + 1 OR balance_after <> previous_balance + amount
ORDER BY account_id, sequence LIMIT 100;

-- name: accounts_below_floor*
-- Accounts whose balance is below what the chart allows.
SELECT a.code, a.currency FROM ledger.accounts a JOIN ledger.balances b ON b.account_id = a.id
WHERE CASE WHEN a.credit_normal THEN b.credits - b.debits ELSE b.debits - b.credits END < a.floor
ORDER BY a.code LIMIT 100;
