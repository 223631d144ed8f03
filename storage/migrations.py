"""Schema steps through yoyo, from `migrations/`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from yoyo import get_backend, read_migrations
from yoyo.backends import DatabaseBackend
from yoyo.exceptions import LockTimeout
from yoyo.migrations import MigrationList

# Not a Python package: yoyo would take its __init__.py for a step.
STEPS = Path(__file__).resolve().parent.parent / "migrations"


class CannotMigrate(RuntimeError):
    """The schema could not be brought up to date; the message says what to do."""


def migrate(dsn: str, *, report: Callable[[str], None] = lambda name: None) -> int:
    """Apply every step that the database lacks, one process at a time; return how many were applied."""
    with _opened(dsn) as (backend, steps), backend.lock():
        missing = backend.to_apply(steps)
        for step in missing:
            report(step.id)
        backend.apply_migrations(missing)
        return len(missing)


def rollback(dsn: str) -> int:
    """Undo every applied step, newest first; return how many were undone."""
    with _opened(dsn) as (backend, steps), backend.lock():
        applied = backend.to_rollback(steps)
        backend.rollback_migrations(applied)
        return len(applied)


@contextmanager
def _opened(dsn: str) -> Iterator[tuple[DatabaseBackend, MigrationList]]:
    scheme, rest = dsn.split("://", 1)
    if scheme not in ("postgresql", "postgres"):
        raise ValueError("DATABASE_URL must begin with postgresql://")
    try:
        backend = get_backend(f"postgresql+psycopg://{rest}")
    except psycopg.OperationalError as fault:
        raise CannotMigrate(f"the database does not answer: {str(fault).splitlines()[0]}") from fault
    try:
        yield backend, read_migrations(str(STEPS))
    except LockTimeout as fault:
        # yoyo's lock is a row, and the row of a migration that was killed stays.
        raise CannotMigrate("another migration runs; if it was killed, empty the table yoyo_lock") from fault
    finally:
        backend.connection.close()
