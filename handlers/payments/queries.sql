-- name: open_deposit!
-- A new deposit, unless its key opened one before.
INSERT INTO deposits (id, user_id, amount, currency, gateway, state, idempotency_key_hash, checkout_id)
VALUES (:id, :user_id, :amount, :currency, :gateway, 'created', :key_hash, :checkout_id)
ON CONFLICT ON CONSTRAINT deposits_one_per_key DO NOTHING;

-- name: deposit_by_key^
-- The deposit that a key opened.
SELECT id, user_id, amount, currency, gateway, state, checkout_id, checkout_form, gateway_order_id,
       gateway_payment_id, ledger_transaction_id, last_failure_code, created_at, paid_at
FROM deposits WHERE user_id = :user_id AND idempotency_key_hash = :key_hash;

-- name: deposit_of_user^
-- A deposit for its owner.
SELECT id, user_id, amount, currency, gateway, state, checkout_id, checkout_form, gateway_order_id,
       gateway_payment_id, ledger_transaction_id, last_failure_code, created_at, paid_at
FROM deposits WHERE id = :id AND user_id = :user_id;

-- name: deposit_by_checkout^
-- A deposit for whoever holds its checkout id.
SELECT id, user_id, amount, currency, gateway, state, checkout_id, checkout_form, gateway_order_id,
       gateway_payment_id, ledger_transaction_id, last_failure_code, created_at, paid_at
FROM deposits WHERE checkout_id = :checkout_id;

-- name: lock_deposit_by_order^
-- The deposit of a gateway's order, locked until the transaction ends.
SELECT id, user_id, amount, currency, gateway, state, checkout_id, checkout_form, gateway_order_id,
       gateway_payment_id, ledger_transaction_id, last_failure_code, created_at, paid_at
FROM deposits WHERE gateway = :gateway AND gateway_order_id = :gateway_order_id
FOR UPDATE;

-- name: start_deposit^
-- The order is open: the payer can be sent to it. No row when another request was faster.
UPDATE deposits
SET state = 'pending', gateway_order_id = :gateway_order_id, checkout_form = :checkout_form, updated_at = now()
WHERE id = :id AND state = 'created'
RETURNING id, user_id, amount, currency, gateway, state, checkout_id, checkout_form, gateway_order_id,
          gateway_payment_id, ledger_transaction_id, last_failure_code, created_at, paid_at;

-- name: settle_deposit!
-- Captured and posted.
UPDATE deposits
SET state = 'paid', gateway_payment_id = :gateway_payment_id, ledger_transaction_id = :ledger_transaction_id,
    paid_at = now(), updated_at = now()
WHERE id = :id AND state = 'pending';

-- name: note_failure!
-- An attempt to pay failed.
UPDATE deposits SET last_failure_code = :code, updated_at = now() WHERE id = :id AND state <> 'paid';

-- name: started_among*
-- Those of the pairs of user and deposit where the user started the deposit.
SELECT user_id, id
FROM unnest(:users::text[], :deposits::text[]) AS asked (user_id, id)
JOIN deposits USING (user_id, id);
