"""`matchday check`: every fault of configuration, contracts, handlers and SQL, before a user finds one."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.errors import StorageBusy
from contracts.runtime import ContractError
from handlers.identity import store as identity_store
from handlers.payments import store as payments_store
from handlers.realtime import members as realtime_members
from handlers.wallet import store as wallet_store
from integrations import inbox
from ledger import chain, journal, reading
from matchday import config, wiring
from matchday.config import ConfigError
from storage import idempotency, sql
from storage.redis import RedisError
from storage.sql import Queries
from streams import log as streams_log

QUERIES: tuple[Queries, ...] = (
    identity_store.Q, payments_store.Q, realtime_members.Q, wallet_store.Q, inbox.Q, journal.Q, reading.Q, chain.Q,
    idempotency.Q, streams_log.Q,
)  # fmt: skip


async def faults(environ: Mapping[str, str]) -> list[str]:
    """Name everything that is wrong; an empty list means that a process may start."""
    try:
        loaded = config.read(environ)
    except ConfigError as fault:
        return fault.faults
    found: list[str] = []
    try:
        async with wiring.resources(loaded, role="check") as opened:
            async with opened.db.connection() as conn:
                for queries in QUERIES:
                    found += await sql.refused(conn, queries)
                if await journal.Q.may_write(conn):
                    found.append("DATABASE_URL: may write the ledger's tables; connect as a member of matchday_app")
            if not await opened.redis.ping():
                found.append("REDIS_URL: no answer")
            wiring.create_web_api(loaded, opened)
    except ContractError as fault:
        found.append(str(fault))
    except (OSError, StorageBusy, RedisError) as fault:
        found.append(f"DATABASE_URL or REDIS_URL: {type(fault).__name__}")
    except ValueError as fault:
        found.append(str(fault))
    return found
