-- name: lock_lane!
-- One sealer per lane at a time.
SELECT pg_advisory_xact_lock('ledger.blocks'::regclass::oid::int, :lane);

-- name: waiting*
-- What waits in a lane, in the order in which a block holds it.
SELECT t.id FROM (SELECT transaction_id FROM ledger.unsealed WHERE lane = :lane LIMIT :limit) u
JOIN ledger.transactions t ON t.id = u.transaction_id
ORDER BY t.recorded_at, t.id;

-- name: transaction_fields*
-- Every field of transactions as text, in the order of the leaf encoding.
SELECT t.id, t.recorded_at, ARRAY[
    t.id::text, t.key, t.kind, t.reference, trim_scale(extract(epoch FROM t.happened_at) * 1000000)::text,
    trim_scale(extract(epoch FROM t.recorded_at) * 1000000)::text, t.hold_id::text, t.reverses::text,
    trim_scale(extract(epoch FROM t.expires_at) * 1000000)::text, t.hold_group, array_to_string(t.accounts, ','),
    encode(t.request_hash, 'hex'), t.metadata::text
] AS fields
FROM ledger.transactions t WHERE t.id = ANY (:ids);

-- name: entry_fields*
-- Every field of their entries and of those entries' accounts as text, in the order of the leaf encoding.
SELECT t.id, ARRAY[
    e.account_id::text, a.code, a.currency, a.kind, trim_scale(a.floor)::text, trim_scale(a.ceiling)::text,
    e.sequence::text, e.transaction_id::text, trim_scale(extract(epoch FROM e.happened_at) * 1000000)::text,
    trim_scale(extract(epoch FROM e.recorded_at) * 1000000)::text, e.currency, trim_scale(e.amount)::text,
    trim_scale(e.pending_debit)::text, trim_scale(e.pending_credit)::text, trim_scale(e.credits)::text,
    trim_scale(e.debits)::text, trim_scale(e.pending_credits)::text, trim_scale(e.pending_debits)::text
] AS fields
FROM ledger.transactions t
CROSS JOIN LATERAL unnest(t.accounts) AS l(account_id)
CROSS JOIN LATERAL (
    SELECT * FROM ledger.entries e WHERE e.account_id = l.account_id AND e.recorded_at = t.recorded_at OFFSET 0
) e
LEFT JOIN LATERAL (SELECT * FROM ledger.accounts a WHERE a.id = e.account_id OFFSET 0) a ON true
WHERE t.id = ANY (:ids)
ORDER BY t.id, e.account_id;

-- name: seal$
-- Append a block; its number.
SELECT ledger.seal_v1(:lane, :ids, :leaves, :root);

-- name: heads*
-- The newest block of each lane that has one.
SELECT DISTINCT ON (lane) lane, number, total, hash FROM ledger.blocks ORDER BY lane, number DESC;

-- name: block_headers*
-- A lane's blocks in order, after a number, without what they hold.
SELECT number, total, sealed_at, previous, root, hash, cardinality(transaction_ids) AS count FROM ledger.blocks
WHERE lane = :lane AND number > :after ORDER BY number LIMIT :limit;

-- name: block_contents^
-- What one block holds.
SELECT transaction_ids, leaves FROM ledger.blocks WHERE lane = :lane AND number = :number;

-- name: not_sealed_once*
-- Transactions that are not exactly once in a block or in the queue.
SELECT t.id, count(s.id) AS times
FROM ledger.transactions t
LEFT JOIN (SELECT unnest(transaction_ids) AS id FROM ledger.blocks
           UNION ALL SELECT transaction_id FROM ledger.unsealed) s ON s.id = t.id
GROUP BY t.id HAVING count(s.id) <> 1
ORDER BY t.id LIMIT 100;

-- name: waiting_for_nothing*
-- Ids in the queue that are no transaction's, or in a lane that is not theirs.
SELECT u.transaction_id FROM ledger.unsealed u LEFT JOIN ledger.transactions t ON t.id = u.transaction_id
WHERE t.id IS NULL OR u.lane <> get_byte(uuid_send(u.transaction_id), 15) & 3
ORDER BY u.transaction_id LIMIT 100;

-- name: waiting_count$
-- How many transactions wait to be sealed.
SELECT count(*) FROM ledger.unsealed;

-- name: patient!
-- No time limit for the statements of this transaction.
SET LOCAL statement_timeout = 0;

-- name: ensure_months$
-- Make the months from a day on; how many were made.
SELECT ledger.ensure_months_v1(:first, :months);

-- name: due_holds*
-- Holds that nobody resolved in time, the oldest first, after (expiry, id).
SELECT h.id, h.amount - h.captured - h.released AS left, h.expires_at, a.currency
FROM ledger.holds h JOIN ledger.accounts a ON a.id = h.source
WHERE h.captured + h.released < h.amount AND h.expires_at <= now() AND (h.expires_at, h.id) > (:after_expiry, :after_id)
ORDER BY h.expires_at, h.id LIMIT :limit;

-- name: months*
-- The months that are here: first day, and about how many entries.
SELECT to_date(substr(c.relname, 9), 'YYYY_MM') AS month, greatest(c.reltuples, 0)::bigint AS entries,
       pg_total_relation_size(c.oid) AS bytes
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'ledger.entries'::regclass AND c.relname ~ '^entries_[0-9]{4}_[0-9]{2}$'
ORDER BY month;

-- name: archived_months*
-- The months that were taken out.
SELECT month, entries, digest, archived_at FROM ledger.archived_months ORDER BY month;

-- name: obstacles^
-- What forbids archiving a month: entries before it, open holds placed in it, transactions of it that are not sealed.
SELECT EXISTS (SELECT FROM ledger.entries WHERE recorded_at < :first) AS older,
       (SELECT count(*) FROM ledger.holds h JOIN ledger.transactions t ON t.id = h.id
        WHERE h.captured + h.released < h.amount AND t.recorded_at < :until) AS holds,
       (SELECT count(*) FROM ledger.unsealed u JOIN ledger.transactions t ON t.id = u.transaction_id
        WHERE t.recorded_at < :until) AS unsealed;

-- name: entries_between*
-- The rows of a month as they are archived.
SELECT account_id, recorded_at, happened_at, sequence, transaction_id, currency, amount, pending_debit, pending_credit,
       credits, debits, pending_credits, pending_debits
FROM ledger.entries WHERE recorded_at >= :first AND recorded_at < :until
ORDER BY account_id, recorded_at;

-- name: archive_month!
-- Drop a month that is in a file.
SELECT ledger.archive_month_v1(:month, :entries, :digest);

-- name: recreate_month$
-- An empty table for the rows of an archived month; its name.
SELECT ledger.recreate_month_v1(:month);

-- name: attach_month!
-- Make it a month of the ledger again.
SELECT ledger.attach_month_v1(:month, :entries);

-- name: limits^
-- What an account's limits are now and whether it may be closed, locked for a change.
SELECT b.floor, b.ceiling, b.credits = b.debits AND b.pending_credits = 0 AND b.pending_debits = 0 AS closable
FROM ledger.accounts a JOIN ledger.balances b ON b.account_id = a.id
WHERE a.code = :code AND a.currency = :currency FOR NO KEY UPDATE OF b;
