from __future__ import annotations

import secrets

import psycopg

from storage.embedded import EmbeddedPostgres
from storage.migrations import migrate, rollback

OBJECTS = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' AND c.relname NOT LIKE '%yoyo%'
UNION ALL
SELECT n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
ORDER BY 1
"""


def test_every_step_goes_forward_back_and_forward_again(postgres: EmbeddedPostgres) -> None:
    name = f"test_{secrets.token_hex(6)}"
    postgres.ensure_database(name)
    dsn = postgres.dsn(name)
    try:
        steps = migrate(dsn)
        made = objects(dsn)
        assert migrate(dsn) == 0
        assert rollback(dsn) == steps > 0
        assert objects(dsn) == []
        assert migrate(dsn) == steps
        assert objects(dsn) == made != []
    finally:
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def objects(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        return [row[0] for row in connection.execute(OBJECTS)]
