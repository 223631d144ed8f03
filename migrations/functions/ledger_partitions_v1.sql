-- Months of entries. A row goes in through ledger.entries, where the guards are; a month by itself takes nothing.

CREATE FUNCTION ledger.guard_month_v1(p_name text) RETURNS void LANGUAGE plpgsql SET search_path = ledger, pg_temp AS $$
BEGIN
    EXECUTE format(
        'CREATE TRIGGER closed BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ledger.%1$I FOR EACH STATEMENT '
        'EXECUTE FUNCTION ledger.refuse_v1(''entries are written through ledger.entries''); '
        'ALTER TABLE ledger.%1$I ENABLE ALWAYS TRIGGER closed', p_name);
END $$;

SELECT ledger.guard_month_v1('entries_default');

-- Make the months from p_from on, as far as they are missing. Returns how many were made.
CREATE FUNCTION ledger.ensure_months_v1(p_from date, p_months int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    month date;
    name  text;
    made  int := 0;
BEGIN
    FOR n IN 0 .. p_months - 1 LOOP
        month := date_trunc('month', p_from) + make_interval(months => n);
        name := 'entries_' || to_char(month, 'YYYY_MM');
        CONTINUE WHEN to_regclass('ledger.' || name) IS NOT NULL;
        EXECUTE format('CREATE TABLE ledger.%I PARTITION OF ledger.entries FOR VALUES FROM (%L) TO (%L)',
                       name, month::timestamptz, (month + interval '1 month')::timestamptz);
        PERFORM ledger.guard_month_v1(name);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

SELECT ledger.ensure_months_v1(date_trunc('month', now())::date, 1);
