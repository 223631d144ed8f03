-- name: post_transfers^
-- Post transfers, and tell both parties of each that is written now: one statement, so one transaction. Each posting has the
-- sender's leg, then the receiver's, and the transfer's id as its reference. An event's id is the transfer's but for the
-- prefix and the last place, which says whose event it is.
WITH posted AS MATERIALIZED (
    SELECT outcomes, ids, recorded, amounts, sequences, credits, debits, pending_credits, pending_debits
    FROM ledger.post_v1(
        :accounts, :keys, :hashes, :kinds, :references, :metadata, :happened_at, :sizes, :leg_postings, :leg_accounts, :amounts,
        :links, :reverses, :up_to, :holds, :expires_at, :groups, :pending_debits, :pending_credits,
        :at_least, :at_most, :versions)
), transfer AS (
    SELECT t.*, p.amounts[2 * n] AS amount,
           p.credits[2 * n - 1] - p.debits[2 * n - 1] - p.pending_debits[2 * n - 1] AS senders_rest,
           p.credits[2 * n] - p.debits[2 * n] - p.pending_debits[2 * n] AS receivers_rest
    FROM posted p
    CROSS JOIN LATERAL unnest(p.outcomes, p.recorded, :references::text[], :senders::text[], :receivers::text[],
                              :currencies::text[])
        WITH ORDINALITY AS t (outcome, recorded_at, id, sender, receiver, currency, n)
    WHERE t.outcome = 'posted'
), told AS (
    INSERT INTO outbox (event_id, type, subject, channels, data, happened_at)
    SELECT 'evt_' || substr(t.id, 5, 25) || e.place, e.type, e.subject, ARRAY['user:' || e.subject, 'wallet:' || e.subject],
           jsonb_build_object(
               'transaction_id', 'txn_' || substr(t.id, 5), 'kind', 'transfer', 'reference', t.id,
               'amount', jsonb_build_object('amount', t.amount::text, 'currency', t.currency),
               'balance', jsonb_build_object('available', jsonb_build_object(
                   'amount', round(e.rest, scale(t.amount))::text, 'currency', t.currency)),
               'counterparty', e.counterparty),
           t.recorded_at
    FROM transfer t
    CROSS JOIN LATERAL (VALUES
        ('0', 'wallet.debited', t.sender, t.receiver, t.senders_rest),
        ('1', 'wallet.credited', t.receiver, t.sender, t.receivers_rest)
    ) AS e (place, type, subject, counterparty, rest)
    ORDER BY t.n, e.place
)
SELECT * FROM posted;
