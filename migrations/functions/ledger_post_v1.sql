-- The one writer of the ledger: any number of postings in one call, each decided in its turn.
--
-- Balance rows are locked once, in the order of account ids, so that two calls never wait for each other in a circle.
-- Then every posting is decided as if it came alone, on what those before it left behind; members of a linked set
-- (equal numbers in p_links, side by side) stand or fall together. What was accepted is written in one statement.
-- A key that was posted before yields its transaction (`replayed`), or `key_reused` when the request differs; a
-- concurrent call with the same key names the same accounts, hence waits for their locks and then finds it.
--
-- Expected refusals are outcomes; what no caller may ever do is raised by the guards and undoes the whole call.
-- Shapes: p_accounts are ids, ascending, of accounts that are open (`open_accounts_v1`), else LG009. Postings and legs are
-- parallel arrays; p_sizes counts the legs of each posting; p_leg_postings and p_leg_accounts point into postings and
-- accounts, from 1. An optional array may be NULL as a whole.

CREATE FUNCTION ledger.post_v1(
    p_accounts bigint[],
    p_keys text[], p_hashes bytea[], p_types text[], p_references text[], p_metadata jsonb[], p_happened_at timestamptz[],
    p_sizes int[], p_leg_postings int[], p_leg_accounts int[], p_amounts numeric[],
    p_links int[] DEFAULT NULL, p_reverses uuid[] DEFAULT NULL, p_up_to boolean[] DEFAULT NULL,
    p_holds uuid[] DEFAULT NULL, p_expires_at timestamptz[] DEFAULT NULL, p_groups text[] DEFAULT NULL,
    p_pending_debits numeric[] DEFAULT NULL, p_pending_credits numeric[] DEFAULT NULL,
    p_at_least numeric[] DEFAULT NULL, p_at_most numeric[] DEFAULT NULL, p_versions bigint[] DEFAULT NULL,
    OUT outcomes text[], OUT ids uuid[], OUT recorded timestamptz[],
    OUT amounts numeric[], OUT sequences bigint[], OUT credits numeric[], OUT debits numeric[],
    OUT pending_credits numeric[], OUT pending_debits numeric[]
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp
-- One plan, by the keys, whatever the statistics of young tables and the lengths of arrays suggest. For the same reason
-- lookups below are LATERAL with OFFSET 0: from what is asked for to the table, never the other way round.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_variable
DECLARE
    n_postings  int := cardinality(p_keys);
    n_legs      int := cardinality(p_amounts);
    locked      bigint[];
    currencies  text[];
    normal      boolean[];
    open        boolean;
    statuses    text[];
    floors      numeric[];
    ceilings    numeric[];
    c           numeric[];      -- credits, debits, pending credits, pending debits and sequence of each locked row,
    d           numeric[];      -- as the postings accepted so far leave them
    pc          numeric[];
    pd          numeric[];
    s           bigint[];
    latest      timestamptz;
    base        timestamptz;
    fresh       boolean;
    decided     boolean;
    known       record;
    hold_ids    uuid[];
    hold_left   numeric[];
    taken_from  int[];          -- the hold that a posting resolves part of, and how much
    taken       numeric[];
    leg_ids     bigint[];
    outcome     text;
    failed      boolean := false;
    first_leg   int := 1;
    last_leg    int;
    set_posting int := 1;       -- where the linked set at hand begins
    set_leg     int := 1;
    j           int;
    k           int;
    h           int;
    room        numeric;
    available   numeric;
    before      numeric;
BEGIN
    SELECT array_agg(b.account_id), array_agg(b.currency), array_agg(b.credit_normal), array_agg(b.status),
           bool_and(b.status = 'open'), array_agg(b.floor), array_agg(b.ceiling), array_agg(b.credits), array_agg(b.debits),
           array_agg(b.pending_credits), array_agg(b.pending_debits), array_agg(b.sequence), max(b.recorded_at)
    INTO locked, currencies, normal, statuses, open, floors, ceilings, c, d, pc, pd, s, latest
    FROM (SELECT * FROM balances WHERE account_id = ANY (p_accounts) ORDER BY account_id FOR NO KEY UPDATE) b;
    IF locked IS DISTINCT FROM p_accounts THEN
        RAISE EXCEPTION 'accounts are open, and named once, in the order of their ids' USING ERRCODE = 'LG009';
    END IF;
    base := greatest(clock_timestamp(), latest + interval '1 microsecond');
    amounts := p_amounts;
    -- After the locks, and in a statement of its own: what others committed before they let go is seen.
    SELECT array_agg(w.id ORDER BY w.n), bool_and(t.id IS NULL) INTO ids, fresh
    FROM (SELECT ledger.transaction_id(w.key) AS id, w.n FROM unnest(p_keys) WITH ORDINALITY AS w(key, n) OFFSET 0) w
    LEFT JOIN LATERAL (SELECT t.id FROM transactions t WHERE t.id = w.id OFFSET 0) t ON true;
    IF fresh AND open AND coalesce(p_holds, p_reverses) IS NULL AND p_up_to IS NULL AND p_versions IS NULL
       AND coalesce(p_at_least, p_at_most) IS NULL THEN
        -- Nothing but amounts: all are decided at once. When nobody is refused, that is what one after the other would be.
        SELECT array_agg(l.account_id), array_agg(l.sequence), array_agg(l.credits), array_agg(l.debits),
               array_agg(l.pc), array_agg(l.pd),
               bool_and(CASE WHEN l.normal THEN (l.credits - l.debits - l.pd >= l.floor) IS NOT FALSE
                                                AND (l.credits - l.debits + l.pc <= l.ceiling) IS NOT FALSE
                             ELSE (l.debits - l.credits - l.pc >= l.floor) IS NOT FALSE
                                  AND (l.debits - l.credits + l.pd <= l.ceiling) IS NOT FALSE END)
        INTO leg_ids, sequences, credits, debits, pending_credits, pending_debits, decided
        FROM (
            SELECT locked[l.slot] AS account_id, normal[l.slot] AS normal, floors[l.slot] AS floor, ceilings[l.slot] AS ceiling,
                   pc[l.slot] AS pc, pd[l.slot] AS pd, s[l.slot] + row_number() OVER w AS sequence,
                   c[l.slot] + sum(greatest(l.amount, 0)) OVER w AS credits,
                   d[l.slot] - sum(least(l.amount, 0)) OVER w AS debits
            FROM unnest(p_amounts, p_leg_accounts) WITH ORDINALITY AS l(amount, slot, leg)
            WINDOW w AS (PARTITION BY l.slot ORDER BY l.leg ROWS UNBOUNDED PRECEDING)
            ORDER BY l.leg
        ) l;
        outcomes := array_fill('posted'::text, ARRAY[n_postings]);
        SELECT array_agg(base + i * interval '1 microsecond') INTO recorded FROM generate_series(1, n_postings) AS i;
    END IF;
    IF decided IS NOT TRUE THEN
        outcomes := array_fill(NULL::text, ARRAY[n_postings]);
        ids := array_fill(NULL::uuid, ARRAY[n_postings]);
        recorded := array_fill(NULL::timestamptz, ARRAY[n_postings]);
        leg_ids := array_fill(NULL::bigint, ARRAY[n_legs]);
        sequences := leg_ids;
        credits := array_fill(NULL::numeric, ARRAY[n_legs]);
        debits := credits;
        pending_credits := credits;
        pending_debits := credits;

        FOR known IN
            SELECT w.n, t.id, t.recorded_at, t.request_hash = w.hash AS same
            FROM unnest(p_keys, p_hashes) WITH ORDINALITY AS w(key, hash, n)
            CROSS JOIN LATERAL (SELECT * FROM transactions t WHERE t.id = ledger.transaction_id(w.key) OFFSET 0) t
        LOOP
            outcomes[known.n] := CASE WHEN known.same THEN 'replayed' ELSE 'key_reused' END;
            IF known.same THEN
                ids[known.n] := known.id;
                recorded[known.n] := known.recorded_at;
            END IF;
        END LOOP;
        IF p_reverses IS NOT NULL THEN
            FOR known IN
                SELECT w.n FROM unnest(p_reverses) WITH ORDINALITY AS w(id, n)
                CROSS JOIN LATERAL (SELECT FROM transactions t WHERE t.reverses = w.id OFFSET 0) t
            LOOP
                outcomes[known.n] := coalesce(outcomes[known.n], 'already_reversed');
            END LOOP;
        END IF;
        IF p_holds IS NOT NULL THEN
            -- The hold's own two balance rows are locked already, and nobody resolves it without them.
            SELECT array_agg(h.id), array_agg(h.amount - h.captured - h.released) INTO hold_ids, hold_left
            FROM holds h WHERE h.id = ANY (p_holds);
        END IF;

        FOR i IN 1 .. n_postings LOOP
            last_leg := first_leg + p_sizes[i] - 1;
            IF i = 1 OR (p_links[i] = p_links[i - 1]) IS NOT TRUE THEN
                set_posting := i;
                set_leg := first_leg;
                failed := false;
            END IF;
            outcome := outcomes[i];
            j := first_leg;         -- the first leg that is not applied
            IF failed THEN
                outcome := 'linked';
            ELSIF i > set_posting AND (outcome IS NOT DISTINCT FROM 'replayed') <> (outcomes[set_posting] = 'replayed') THEN
                outcome := 'key_reused';        -- of another set
            ELSIF outcome = 'replayed' THEN
                FOR known IN
                    SELECT l.leg, e.* FROM generate_series(first_leg, last_leg) AS l(leg)
                    CROSS JOIN LATERAL (
                        SELECT * FROM entries e
                        WHERE e.account_id = locked[p_leg_accounts[l.leg]] AND e.recorded_at = recorded[i] OFFSET 0) e
                LOOP
                    amounts[known.leg] := known.amount;
                    sequences[known.leg] := known.sequence;
                    credits[known.leg] := known.credits;
                    debits[known.leg] := known.debits;
                    pending_credits[known.leg] := known.pending_credits;
                    pending_debits[known.leg] := known.pending_debits;
                END LOOP;
                j := last_leg + 1;
            ELSIF outcome IS NULL THEN
                IF p_reverses[i] IS NOT NULL AND EXISTS (
                    SELECT FROM generate_series(1, i - 1) AS m WHERE outcomes[m] = 'posted' AND p_reverses[m] = p_reverses[i]
                ) THEN
                    outcome := 'already_reversed';
                ELSIF p_holds[i] IS NOT NULL AND p_expires_at[i] IS NULL THEN
                    h := array_position(hold_ids, p_holds[i]);
                    room := abs(p_pending_debits[first_leg] + p_pending_debits[last_leg]);
                    IF (room <= hold_left[h]) IS TRUE THEN
                        hold_left[h] := hold_left[h] - room;
                        taken_from[i] := h;
                        taken[i] := room;
                    ELSE
                        outcome := 'hold_resolved';
                    END IF;
                ELSIF p_up_to[i] THEN
                    room := abs(p_amounts[first_leg]);
                    FOR leg IN first_leg .. last_leg LOOP
                        k := p_leg_accounts[leg];
                        room := least(room, CASE
                            WHEN normal[k] AND p_amounts[leg] < 0 THEN c[k] - d[k] - pd[k] - floors[k]
                            WHEN normal[k] THEN ceilings[k] - (c[k] - d[k] + pc[k])
                            WHEN p_amounts[leg] > 0 THEN d[k] - c[k] - pc[k] - floors[k]
                            ELSE ceilings[k] - (d[k] - c[k] + pd[k]) END);
                    END LOOP;
                    IF room <= 0 THEN
                        outcome := 'nothing_available';
                    ELSE
                        FOR leg IN first_leg .. last_leg LOOP
                            amounts[leg] := sign(p_amounts[leg]) * room;
                        END LOOP;
                    END IF;
                END IF;
                WHILE outcome IS NULL AND j <= last_leg LOOP
                    k := p_leg_accounts[j];
                    leg_ids[j] := locked[k];
                    before := s[k];
                    IF amounts[j] >= 0 THEN
                        c[k] := c[k] + amounts[j];
                    ELSE
                        d[k] := d[k] - amounts[j];
                    END IF;
                    IF p_pending_debits[j] <> 0 THEN
                        pd[k] := pd[k] + p_pending_debits[j];
                    END IF;
                    IF p_pending_credits[j] <> 0 THEN
                        pc[k] := pc[k] + p_pending_credits[j];
                    END IF;
                    s[k] := s[k] + 1;
                    sequences[j] := s[k];
                    credits[j] := c[k];
                    debits[j] := d[k];
                    pending_credits[j] := pc[k];
                    pending_debits[j] := pd[k];
                    j := j + 1;
                    available := CASE WHEN normal[k] THEN c[k] - d[k] - pd[k] ELSE d[k] - c[k] - pc[k] END;
                    IF available < floors[k] THEN
                        outcome := 'insufficient_funds';
                    ELSIF (CASE WHEN normal[k] THEN c[k] - d[k] + pc[k] ELSE d[k] - c[k] + pd[k] END) > ceilings[k] THEN
                        outcome := 'limit_exceeded';
                    ELSIF statuses[k] = 'closed' THEN
                        outcome := 'account_closed';
                    ELSIF statuses[k] = 'frozen' AND (CASE
                            WHEN normal[k] THEN amounts[j - 1] < coalesce(p_pending_debits[j - 1], 0)
                            ELSE amounts[j - 1] > -coalesce(p_pending_credits[j - 1], 0) END) THEN
                        outcome := 'account_frozen';
                    ELSIF available < p_at_least[j - 1] OR available > p_at_most[j - 1] OR before <> p_versions[j - 1] THEN
                        outcome := 'condition_failed';
                    END IF;
                END LOOP;
                IF outcome IS NULL THEN
                    outcome := 'posted';
                    ids[i] := ledger.transaction_id(p_keys[i]);
                    recorded[i] := base + i * interval '1 microsecond';
                END IF;
            END IF;
            outcomes[i] := outcome;
            IF outcome NOT IN ('posted', 'replayed') THEN       -- also when its key was found, but not its set
                ids[i] := NULL;
                recorded[i] := NULL;
            END IF;

            IF outcome NOT IN ('posted', 'replayed', 'linked') THEN
                -- Nothing of the set happens: turn back what it did.
                failed := true;
                FOR leg IN REVERSE j - 1 .. set_leg LOOP
                    CONTINUE WHEN leg_ids[leg] IS NULL;
                    k := p_leg_accounts[leg];
                    IF amounts[leg] >= 0 THEN
                        c[k] := c[k] - amounts[leg];
                    ELSE
                        d[k] := d[k] + amounts[leg];
                    END IF;
                    pd[k] := pd[k] - coalesce(p_pending_debits[leg], 0);
                    pc[k] := pc[k] - coalesce(p_pending_credits[leg], 0);
                    s[k] := s[k] - 1;
                    leg_ids[leg] := NULL;
                END LOOP;
                FOR member IN set_posting .. i LOOP
                    IF taken_from[member] IS NOT NULL THEN
                        hold_left[taken_from[member]] := hold_left[taken_from[member]] + taken[member];
                        taken_from[member] := NULL;
                    END IF;
                    CONTINUE WHEN outcomes[member] <> 'posted';
                    outcomes[member] := 'linked';
                    ids[member] := NULL;
                    recorded[member] := NULL;
                END LOOP;
            END IF;
            first_leg := last_leg + 1;
        END LOOP;
    END IF;

    WITH leg AS MATERIALIZED (
        SELECT * FROM unnest(leg_ids, amounts, p_pending_debits, p_pending_credits, sequences, credits, debits,
                             pending_credits, pending_debits, p_leg_postings, p_leg_accounts)
            AS l(account_id, amount, pending_debit, pending_credit, sequence, credits, debits, pending_credits, pending_debits,
                 n, slot)
        WHERE l.account_id IS NOT NULL
    ), posting AS (
        SELECT * FROM unnest(p_keys, p_hashes, p_types, p_references, p_metadata, p_happened_at, p_reverses, p_holds,
                             p_expires_at, p_groups, ids, recorded, outcomes) WITH ORDINALITY
            AS p(key, request_hash, kind, reference, metadata, happened_at, reverses, hold_id, expires_at, hold_group,
                 id, recorded_at, outcome, n)
        WHERE p.outcome = 'posted'
    ), header AS (
        INSERT INTO transactions (key, request_hash, kind, reference, metadata, happened_at, recorded_at, reverses, hold_id,
                                  expires_at, hold_group, accounts)
        SELECT p.key, p.request_hash, p.kind, p.reference, p.metadata, least(p.happened_at, p.recorded_at), p.recorded_at,
               p.reverses, p.hold_id, p.expires_at, p.hold_group, l.accounts
        FROM posting p
        JOIN (SELECT n, array_agg(account_id ORDER BY account_id) AS accounts FROM leg GROUP BY n) l ON l.n = p.n
    ), queue AS (
        INSERT INTO unsealed (transaction_id, lane) SELECT p.id, get_byte(uuid_send(p.id), 15) & 3 FROM posting p
    )
    INSERT INTO entries (account_id, recorded_at, happened_at, sequence, transaction_id, currency, amount, pending_debit,
                         pending_credit, credits, debits, pending_credits, pending_debits)
    SELECT l.account_id, recorded[l.n], least(p_happened_at[l.n], recorded[l.n]), l.sequence, ids[l.n], currencies[l.slot],
           l.amount, coalesce(l.pending_debit, 0), coalesce(l.pending_credit, 0), l.credits, l.debits, l.pending_credits,
           l.pending_debits
    FROM leg l;
END $$;

-- Open what is missing among the accounts, in the order of their codes. Returns the id of each, in the order they came, and
-- whether it is there for good: not for one that this database transaction opened, which may yet be undone. Raises LG009
-- when one is known under another kind, floor or ceiling.
CREATE FUNCTION ledger.open_accounts_v1(
    p_codes text[], p_currencies text[], p_kinds text[], p_floors numeric[], p_ceilings numeric[],
    OUT ids bigint[], OUT lasting boolean[]
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    agreed boolean;
BEGIN
    FOR attempt IN 1 .. 2 LOOP
        SELECT array_agg(a.id ORDER BY w.n), array_agg(a.created_at <> now() ORDER BY w.n),
               bool_and(a.kind = w.kind AND a.floor IS NOT DISTINCT FROM w.floor AND a.ceiling IS NOT DISTINCT FROM w.ceiling)
        INTO ids, lasting, agreed
        FROM unnest(p_codes, p_currencies, p_kinds, p_floors, p_ceilings) WITH ORDINALITY
            AS w(code, currency, kind, floor, ceiling, n)
        CROSS JOIN LATERAL (SELECT * FROM accounts a WHERE a.code = w.code AND a.currency = w.currency OFFSET 0) a;
        EXIT WHEN cardinality(ids) = cardinality(p_codes);
        INSERT INTO accounts (code, currency, kind, floor, ceiling)
        SELECT w.code, w.currency, w.kind, w.floor, w.ceiling
        FROM unnest(p_codes, p_currencies, p_kinds, p_floors, p_ceilings) AS w(code, currency, kind, floor, ceiling)
        ORDER BY w.code, w.currency
        ON CONFLICT (code, currency) DO NOTHING;
    END LOOP;
    IF cardinality(ids) <> cardinality(p_codes) THEN
        RAISE EXCEPTION 'an account was opened that this snapshot does not see' USING ERRCODE = '40001';
    ELSIF NOT agreed THEN
        RAISE EXCEPTION 'account is known under another kind, floor or ceiling' USING ERRCODE = 'LG009';
    END IF;
END $$;
