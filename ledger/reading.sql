-- Everything that reads accounts and transactions. History only grows, and what was archived is always its beginning:
-- so the balance at an instant is what the next entry found, or the balance of now where there is no next entry. That
-- takes one descent of the primary key, however long the history is, and is right where `known` is true.
-- `known` is for a statement that stands alone, or is the first of its transaction: inside an older snapshot a month can
-- be gone that is not archived yet.

-- name: balance^
-- An account's counters now; no row for an account that no posting opened yet.
SELECT b.sequence, b.recorded_at, b.status, b.credits, b.debits, b.pending_credits, b.pending_debits
FROM ledger.accounts a JOIN ledger.balances b ON b.account_id = a.id
WHERE a.code = :code AND a.currency = :currency;

-- name: states*
-- An account's counters as recorded up to some instants, and as far as happened up to others, a row for each pair.
-- What happened by E and was recorded later, until R, comes on top of what was recorded by E. It was recorded an hour
-- late or more and is in the index of late entries, or else it was recorded within an hour after E.
SELECT coalesce(x.sequence - 1, b.sequence) + l.entries AS sequence,
       coalesce(x.credits - greatest(x.amount, 0), b.credits) + l.credits AS credits,
       coalesce(x.debits + least(x.amount, 0), b.debits) + l.debits AS debits,
       coalesce(x.pending_credits - x.pending_credit, b.pending_credits) + l.pending_credits AS pending_credits,
       coalesce(x.pending_debits - x.pending_debit, b.pending_debits) + l.pending_debits AS pending_debits,
       coalesce((SELECT c.status FROM ledger.account_changes c WHERE c.account_id = a.id AND c.changed_at <= i.recorded
                 ORDER BY c.id DESC LIMIT 1), 'open') AS status,
       b.sequence = 0 OR coalesce(x.sequence = 1, b.recorded_at <= i.at) OR i.at >= h.kept_from AS known
FROM ledger.accounts a
JOIN ledger.balances b ON b.account_id = a.id
CROSS JOIN (SELECT r AS recorded, e AS happened, least(r, e) AS at, n
            FROM unnest(:recorded::timestamptz[], :happened::timestamptz[]) WITH ORDINALITY AS p(r, e, n)) i
CROSS JOIN (SELECT coalesce((max(month) + interval '1 month') AT TIME ZONE 'UTC' - interval '1 microsecond',
                            '-infinity') AS kept_from FROM ledger.archived_months) h
LEFT JOIN LATERAL (
    SELECT e.sequence, e.amount, e.pending_credit, e.pending_debit, e.credits, e.debits, e.pending_credits,
           e.pending_debits
    FROM ledger.entries e WHERE e.account_id = a.id AND e.recorded_at > i.at AND b.recorded_at > i.at
    ORDER BY e.recorded_at LIMIT 1) x ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS entries,
           coalesce(sum(greatest(amount, 0)), 0) AS credits, coalesce(-sum(least(amount, 0)), 0) AS debits,
           coalesce(sum(pending_credit), 0) AS pending_credits, coalesce(sum(pending_debit), 0) AS pending_debits
    FROM (SELECT e.amount, e.pending_credit, e.pending_debit FROM ledger.entries e
          WHERE e.account_id = a.id AND e.happened_at <= i.happened
            AND e.recorded_at - e.happened_at >= interval '1 hour'
            AND e.recorded_at > i.happened AND e.recorded_at <= i.recorded AND b.recorded_at > i.happened
          UNION ALL
          SELECT e.amount, e.pending_credit, e.pending_debit FROM ledger.entries e
          WHERE e.account_id = a.id AND e.recorded_at > i.happened AND e.recorded_at < i.happened + interval '1 hour'
            AND e.recorded_at <= i.recorded AND e.happened_at <= i.happened
            AND e.recorded_at - e.happened_at < interval '1 hour' AND b.recorded_at > i.happened) late) l
WHERE a.code = :code AND a.currency = :currency
ORDER BY i.n;

-- name: entries_before*
-- An account's entries after one instant and before another, newest first. Of a kind, if one is given: then only so
-- many are looked at, and the last of these is returned whatever its kind, with the number `looked`.
SELECT e.sequence, e.amount, e.pending_debit, e.pending_credit, e.credits - e.debits AS balance_after, e.recorded_at,
       e.happened_at, e.looked, t.id AS transaction_id, t.kind, t.reference
FROM (SELECT row_number() OVER (ORDER BY recorded_at DESC) AS looked, l.* FROM (
          SELECT * FROM ledger.entries
          WHERE account_id = (SELECT id FROM ledger.accounts WHERE code = :code AND currency = :currency)
            AND recorded_at > :after AND recorded_at < :before
          ORDER BY recorded_at DESC LIMIT :look) l) e
CROSS JOIN LATERAL (SELECT * FROM ledger.transactions t WHERE t.id = e.transaction_id OFFSET 0) t
WHERE :kind::text IS NULL OR t.kind = :kind OR e.looked = :look
ORDER BY e.recorded_at DESC LIMIT :limit;

-- name: entries_after*
-- The same, oldest first.
SELECT e.sequence, e.amount, e.pending_debit, e.pending_credit, e.credits - e.debits AS balance_after, e.recorded_at,
       e.happened_at, e.looked, t.id AS transaction_id, t.kind, t.reference
FROM (SELECT row_number() OVER (ORDER BY recorded_at) AS looked, l.* FROM (
          SELECT * FROM ledger.entries
          WHERE account_id = (SELECT id FROM ledger.accounts WHERE code = :code AND currency = :currency)
            AND recorded_at > :after AND recorded_at < :before
          ORDER BY recorded_at LIMIT :look) l) e
CROSS JOIN LATERAL (SELECT * FROM ledger.transactions t WHERE t.id = e.transaction_id OFFSET 0) t
WHERE :kind::text IS NULL OR t.kind = :kind OR e.looked = :look
ORDER BY e.recorded_at LIMIT :limit;

-- name: reference_before*
-- An account's entries of a reference, and of a kind if one is given, newest first.
SELECT e.sequence, e.amount, e.pending_debit, e.pending_credit, e.credits - e.debits AS balance_after, e.recorded_at,
       e.happened_at, t.id AS transaction_id, t.kind, t.reference
FROM ledger.transactions t
JOIN ledger.entries e ON e.recorded_at = t.recorded_at AND e.transaction_id = t.id
     AND e.account_id = (SELECT id FROM ledger.accounts WHERE code = :code AND currency = :currency)
WHERE t.reference = :reference AND t.reference <> '' AND t.recorded_at > :after AND t.recorded_at < :before
  AND (:kind::text IS NULL OR t.kind = :kind)
ORDER BY t.recorded_at DESC LIMIT :limit;

-- name: reference_after*
-- The same, oldest first.
SELECT e.sequence, e.amount, e.pending_debit, e.pending_credit, e.credits - e.debits AS balance_after, e.recorded_at,
       e.happened_at, t.id AS transaction_id, t.kind, t.reference
FROM ledger.transactions t
JOIN ledger.entries e ON e.recorded_at = t.recorded_at AND e.transaction_id = t.id
     AND e.account_id = (SELECT id FROM ledger.accounts WHERE code = :code AND currency = :currency)
WHERE t.reference = :reference AND t.reference <> '' AND t.recorded_at > :after AND t.recorded_at < :before
  AND (:kind::text IS NULL OR t.kind = :kind)
ORDER BY t.recorded_at LIMIT :limit;

-- name: archived_before$
-- Before which instant entries of the account were archived; NULL when it has all of them.
SELECT (SELECT (max(month) + interval '1 month') AT TIME ZONE 'UTC' FROM ledger.archived_months)
FROM ledger.accounts a JOIN ledger.balances b ON b.account_id = a.id
WHERE a.code = :code AND a.currency = :currency AND b.sequence > 0
  AND coalesce((SELECT e.sequence FROM ledger.entries e WHERE e.account_id = a.id
                ORDER BY e.recorded_at LIMIT 1), 0) <> 1;

-- name: open_holds*
-- What is left of the holds on an account, either way, those placed before an instant, newest first.
SELECT h.id AS hold_id, h.source = s.id AS outgoing, h.amount AS hold_amount, h.captured, h.released, h.expires_at,
       h.hold_group, t.kind, t.reference, t.recorded_at
FROM (SELECT id FROM ledger.accounts WHERE code = :code AND currency = :currency) s
JOIN ledger.holds h ON (h.source = s.id OR h.target = s.id) AND h.captured + h.released < h.amount
JOIN ledger.transactions t ON t.id = h.id
WHERE t.recorded_at < :before
ORDER BY t.recorded_at DESC LIMIT :limit;

-- name: transactions*
-- Transactions by their ids, oldest first, with what they reverse, what reversed them, and the hold they belong to.
SELECT t.id, t.key, t.kind, t.reference, t.metadata, t.happened_at, t.recorded_at, t.reverses, r.id AS reversed_by,
       cardinality(t.accounts) AS size, t.hold_id, h.amount, h.captured, h.released, h.expires_at, h.hold_group,
       s.code AS source, s.currency AS hold_currency, g.code AS target
FROM ledger.transactions t
LEFT JOIN ledger.transactions r ON r.reverses = t.id
LEFT JOIN ledger.holds h ON h.id = t.hold_id
LEFT JOIN ledger.accounts s ON s.id = h.source
LEFT JOIN ledger.accounts g ON g.id = h.target
WHERE t.id = ANY (:ids)
ORDER BY t.recorded_at, t.id;

-- name: lines*
-- The entries of transactions with their accounts.
SELECT t.id, a.code, a.currency, a.kind, e.sequence, e.amount, e.pending_debit, e.pending_credit, e.credits, e.debits
FROM ledger.transactions t
CROSS JOIN LATERAL unnest(t.accounts) AS l(account_id)
CROSS JOIN LATERAL (
    SELECT * FROM ledger.entries e WHERE e.account_id = l.account_id AND e.recorded_at = t.recorded_at OFFSET 0
) e
CROSS JOIN LATERAL (SELECT * FROM ledger.accounts a WHERE a.id = e.account_id OFFSET 0) a
WHERE t.id = ANY (:ids)
ORDER BY t.recorded_at, t.id, a.code, a.currency;

-- name: with_reference*
-- Transactions of a reference, newest first, before (instant, id).
SELECT t.id FROM ledger.transactions t
WHERE t.reference = :reference AND t.reference <> '' AND t.recorded_at <= :before
  AND (t.recorded_at, t.id) < (:before, :before_id)
ORDER BY t.recorded_at DESC, t.id DESC LIMIT :limit;

-- name: with_metadata*
-- Transactions whose metadata contains all of this, newest first of so many.
SELECT m.id FROM (SELECT t.id, t.recorded_at FROM ledger.transactions t
                  WHERE t.metadata @> :metadata::jsonb AND t.metadata <> '{}' LIMIT :look) m
ORDER BY m.recorded_at DESC, m.id DESC;

-- name: own_side^
-- An account's side of a transaction that it has part in; no sequence when its entry was archived.
SELECT e.sequence, e.amount, e.pending_debit, e.pending_credit, e.credits - e.debits AS balance_after, t.recorded_at,
       t.happened_at, t.id AS transaction_id, t.kind, t.reference, t.reverses, r.id AS reversed_by,
       h.id AS hold_id, h.source = a.id AS outgoing, h.amount AS hold_amount, h.captured, h.released, h.expires_at
FROM ledger.accounts a
JOIN ledger.transactions t ON a.id = ANY (t.accounts)
LEFT JOIN ledger.entries e ON e.account_id = a.id AND e.recorded_at = t.recorded_at
LEFT JOIN ledger.transactions r ON r.reverses = t.id
LEFT JOIN ledger.holds h ON h.id = t.hold_id
WHERE a.code = :code AND a.currency = :currency AND t.id = :id;

-- name: groups*
-- What the accounts of a code and below it had posted and pending at an instant, by the first segments of their codes.
-- An instant for which an account's entries were archived comes first.
SELECT g.code, g.currency, bool_and(g.known) AS known, count(*) AS accounts,
       CASE WHEN min(g.kind) = max(g.kind) THEN min(g.kind) END AS kind,
       sum(g.credits - g.debits) AS posted, sum(g.pending_credits) AS pending_credits,
       sum(g.pending_debits) AS pending_debits
FROM (
    SELECT array_to_string((string_to_array(a.code, ':'))[1 : :depth], ':') COLLATE "C" AS code, a.currency, a.kind,
           coalesce(x.credits - greatest(x.amount, 0), b.credits) AS credits,
           coalesce(x.debits + least(x.amount, 0), b.debits) AS debits,
           coalesce(x.pending_credits - x.pending_credit, b.pending_credits) AS pending_credits,
           coalesce(x.pending_debits - x.pending_debit, b.pending_debits) AS pending_debits,
           b.sequence = 0 OR coalesce(x.sequence = 1, b.recorded_at <= :at) OR :at >= h.kept_from AS known
    FROM ledger.accounts a
    JOIN ledger.balances b ON b.account_id = a.id
    CROSS JOIN (SELECT coalesce((max(month) + interval '1 month') AT TIME ZONE 'UTC' - interval '1 microsecond',
                                '-infinity') AS kept_from FROM ledger.archived_months) h
    LEFT JOIN LATERAL (
        SELECT e.sequence, e.amount, e.pending_credit, e.pending_debit, e.credits, e.debits, e.pending_credits,
               e.pending_debits
        FROM ledger.entries e WHERE e.account_id = a.id AND e.recorded_at > :at AND b.recorded_at > :at
        ORDER BY e.recorded_at LIMIT 1) x ON true
    WHERE :code = '' OR a.code = :code OR a.code > :code || ':' AND a.code < :code || ';') g
GROUP BY g.code, g.currency
ORDER BY known, g.code, g.currency;
