-- A block takes its transactions out of the queue and continues its lane. Nothing else takes them out, and no block is
-- ever changed. LG013: a block that does not continue its lane, or seals what does not wait in it.

CREATE FUNCTION ledger.block_hash_v1(
    p_lane smallint, p_number bigint, p_previous bytea, p_sealed_at timestamptz, p_total bigint, p_count int, p_root bytea
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(convert_to('matchday.ledger.block.v1', 'UTF8') || int2send(p_lane) || int8send(p_number) || p_previous
                  || int8send((extract(epoch FROM p_sealed_at) * 1000000)::bigint) || int8send(p_total)
                  || int4send(p_count) || p_root)
$$;

CREATE FUNCTION ledger.verify_block_v1() RETURNS trigger LANGUAGE plpgsql
SET search_path = ledger, pg_temp SET enable_nestloop = off AS $$
DECLARE
    last  record;
    size  int := cardinality(NEW.transaction_ids);
    taken int;
BEGIN
    PERFORM pg_advisory_xact_lock('blocks'::regclass::oid::int, NEW.lane);
    SELECT number, total, hash INTO last FROM blocks WHERE lane = NEW.lane ORDER BY number DESC LIMIT 1;
    IF size = 0 OR octet_length(NEW.leaves) <> 32 * size OR octet_length(NEW.root) <> 32
       OR NEW.number <> coalesce(last.number, 0) + 1 OR NEW.total <> coalesce(last.total, 0) + size
       OR NEW.previous <> coalesce(last.hash, decode(repeat('00', 32), 'hex'))
       OR NEW.hash <> ledger.block_hash_v1(NEW.lane, NEW.number, NEW.previous, NEW.sealed_at, NEW.total, size, NEW.root) THEN
        RAISE EXCEPTION 'a block continues its lane' USING ERRCODE = 'LG013';
    END IF;
    DELETE FROM unsealed u USING unnest(NEW.transaction_ids) AS s(id) WHERE u.transaction_id = s.id AND u.lane = NEW.lane;
    GET DIAGNOSTICS taken = ROW_COUNT;
    IF taken <> size THEN
        RAISE EXCEPTION 'a block seals what waits in its lane' USING ERRCODE = 'LG013';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER blocks_verified BEFORE INSERT ON ledger.blocks
    FOR EACH ROW EXECUTE FUNCTION ledger.verify_block_v1();
CREATE TRIGGER blocks_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.blocks
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_v1('a block stays what it is');
CREATE TRIGGER unsealed_kept BEFORE UPDATE OR TRUNCATE ON ledger.unsealed
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_v1('what waits to be sealed is sealed');
-- Inside the trigger above the depth is one.
CREATE TRIGGER unsealed_sealed BEFORE DELETE ON ledger.unsealed
    FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0)
    EXECUTE FUNCTION ledger.refuse_v1('what waits to be sealed is sealed');

ALTER TABLE ledger.blocks ENABLE ALWAYS TRIGGER blocks_verified, ENABLE ALWAYS TRIGGER blocks_append_only;
ALTER TABLE ledger.unsealed ENABLE ALWAYS TRIGGER unsealed_kept, ENABLE ALWAYS TRIGGER unsealed_sealed;

-- Append a block to its lane; returns its number. The caller has locked the lane (`lock_lane` in ledger/upkeep.sql), read
-- what waits, and hashed it.
CREATE FUNCTION ledger.seal_v1(p_lane smallint, p_ids uuid[], p_leaves bytea, p_root bytea) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
    INSERT INTO blocks (lane, number, total, sealed_at, previous, root, hash, transaction_ids, leaves)
    SELECT p_lane, n.number, n.total, n.sealed_at, n.previous, p_root,
           ledger.block_hash_v1(p_lane, n.number, n.previous, n.sealed_at, n.total, cardinality(p_ids), p_root),
           p_ids, p_leaves
    FROM (SELECT clock_timestamp() AS sealed_at, coalesce(b.number, 0) + 1 AS number,
                 coalesce(b.total, 0) + cardinality(p_ids) AS total,
                 coalesce(b.hash, decode(repeat('00', 32), 'hex')) AS previous
          FROM (VALUES (1)) AS always(one)
          LEFT JOIN (SELECT number, total, hash FROM blocks WHERE lane = p_lane ORDER BY number DESC LIMIT 1) b ON true) n
    RETURNING number
$$;
