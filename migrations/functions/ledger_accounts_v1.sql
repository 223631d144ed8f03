-- What may be changed about an account, by whom and why: a row of account_changes, and then the balance row.
-- NULL leaves a limit as it is not; the caller says all three. Raises LG007 when the balance is outside the new limits,
-- LG010 when an account is to be closed that is not at zero, P0002 when there is no such account.

CREATE FUNCTION ledger.change_account_v1(
    p_code text, p_currency text, p_status text, p_floor numeric, p_ceiling numeric, p_actor text, p_reason text
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
    account bigint;
    change  bigint;
BEGIN
    SELECT b.account_id INTO STRICT account
    FROM accounts a JOIN balances b ON b.account_id = a.id
    WHERE a.code = p_code AND a.currency = p_currency FOR NO KEY UPDATE OF b;
    INSERT INTO account_changes (account_id, status, floor, ceiling, actor, reason)
    VALUES (account, p_status, p_floor, p_ceiling, p_actor, p_reason) RETURNING id INTO change;
    UPDATE balances SET change_id = change, status = p_status, floor = p_floor, ceiling = p_ceiling
    WHERE account_id = account;
    RETURN change;
END $$;
