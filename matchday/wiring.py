"""The composition root: the only file that names concrete classes."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from taskiq_redis import RedisStreamBroker

from contracts.asyncapi import EventsDocument
from contracts.asyncapi import routes as events_routes
from contracts.principal import Principal
from contracts.runtime import Handler, RuntimeOptions, create_api, load_contracts
from handlers.identity import jobs as identity_jobs
from handlers.identity import operations as identity_operations
from handlers.identity import store as identity_store
from handlers.identity.passwords import Argon2Cost, PasswordHasher
from handlers.identity.service import Identity, IdentityConfig
from handlers.identity.sessions import Revocations
from handlers.identity.tokens import AccessTokens, TokenConfig
from handlers.payments import jobs as payments_jobs
from handlers.payments import operations as payments_operations
from handlers.payments import store as payments_store
from handlers.payments.service import Deposits, PaymentsConfig
from handlers.payments.webhooks import Webhooks
from handlers.realtime import console
from handlers.realtime import operations as realtime_operations
from handlers.realtime.rights import ChannelRights
from handlers.wallet import operations as wallet_operations
from handlers.wallet import service as wallet_service
from handlers.wallet import store as wallet_store
from handlers.wallet.transfers import TransferOperations
from integrations.ports import PaymentGateway
from integrations.razorpay import RazorpayConfig, RazorpayGateway
from integrations.razorpay.sandbox import RazorpaySandboxConfig
from integrations.sandbox import SandboxConfig, create_sandbox
from integrations.smtp.client import SmtpConfig, SmtpSender
from integrations.smtp.sandbox import SmtpSandboxConfig
from ledger.poster import Poster
from ledger.sweeps import Sweeps
from matchday.broker import Kicker, Task, create_broker, register
from matchday.config import Config
from matchday.health import Health
from storage import redis as storage_redis
from storage.db import Database
from storage.redis import Redis
from streams import event_counts, outbox
from streams.connection import Observer
from streams.consumer import Consumer, Consumers
from streams.options import StreamOptions
from streams.realtime import Realtime
from streams.relay import Relay
from streams.retention import Retention

CONTRACTS = Path(__file__).resolve().parent.parent / "contracts"
SLICES = ("identity", "wallet", "payments", "webhooks", "realtime")
USER_SCOPES = ("payments:read", "payments:write", "profile:read", "realtime:read", "wallet:read", "wallet:write")
PASSWORD_QUEUE = 20
# So long after a statement's time is up a server that has not said so is out of reach.
SILENCE_S = 1.0
# Who reads the log besides the streams. A name is for ever: it is where a group stands.
CONSUMERS = (Consumer(event_counts.GROUP, event_counts.count),)


@dataclass(frozen=True, slots=True)
class Resources:
    """What every process opens: the pool, Redis, the broker and the gateways."""

    db: Database
    redis: Redis
    broker: RedisStreamBroker
    kick: Kicker
    gateways: Mapping[str, PaymentGateway]


@asynccontextmanager
async def resources(config: Config, *, role: str) -> AsyncIterator[Resources]:
    """Open what a process needs and close it in reverse order."""
    async with AsyncExitStack() as stack:
        db = Database(
            config.database_url, pool_max=config.pool_max, statement_timeout_s=config.statement_timeout_s,
            # the nightly check of the books lifts the limit for its statements
            silence_s=None if role == "worker" else config.statement_timeout_s + SILENCE_S,
            application_name=f"matchday-{role}",
        )  # fmt: skip
        await db.connect()
        stack.push_async_callback(db.disconnect)
        redis = storage_redis.connect(config.redis_url)
        stack.push_async_callback(redis.aclose)
        poker = outbox.Poker(redis)
        stack.push_async_callback(poker.close)
        db.on_commit(outbox.APPENDED, poker)
        broker = create_broker(config.redis_url)
        razorpay = RazorpayGateway(_razorpay(config))
        stack.push_async_callback(razorpay.close)
        gateways: dict[str, PaymentGateway] = {razorpay.name: razorpay}
        opened = Resources(db, redis, broker, Kicker(broker), gateways)
        register(broker, tasks(config, opened))
        await broker.startup()
        stack.push_async_callback(broker.shutdown)
        yield opened


def tasks(config: Config, opened: Resources) -> dict[str, Task]:
    """Every task a worker runs, by name."""
    identity = identity_jobs.Jobs(opened.db, sender=SmtpSender(_smtp(config)))
    payments = payments_jobs.Jobs(opened.db, deposits=_deposits(config, opened), gateways=opened.gateways)
    ledger = Sweeps(opened.db, anchor_key=config.anchor_key, anchor_file=config.anchor_file)
    return {
        "identity.send_email": identity.send_email,
        "identity.send_due_emails": identity.send_due_emails,
        "ledger.seal": ledger.seal,
        "ledger.expire_holds": ledger.expire_holds,
        "ledger.anchor": ledger.anchor,
        "ledger.ensure_months": ledger.ensure_months,
        "ledger.check": ledger.check,
        "payments.process_delivery": payments.process_delivery,
        "payments.process_due_deliveries": payments.process_due_deliveries,
        "payments.purge_idempotency_keys": payments.purge_idempotency_keys,
        "streams.keep_days": Retention(opened.db, StreamOptions()).keep_days,
    }


@dataclass(frozen=True, slots=True)
class Api:
    """The web application and what has to be started and stopped with it."""

    app: web.Application
    realtime: Realtime
    revocations: Revocations
    hasher: PasswordHasher
    poster: Poster


def create_web_api(
    config: Config, opened: Resources, *, violations: list[str] | None = None, observe: Observer | None = None
) -> Api:
    """Compose the API. `violations` collects broken responses, `observe` sees every message of a stream."""
    revocations = Revocations(opened.db)
    hasher = PasswordHasher(
        pepper=config.password_pepper.encode(), workers=max(1, (os.cpu_count() or 2) - 1), queue_limit=PASSWORD_QUEUE,
        cost=Argon2Cost(),
    )  # fmt: skip
    tokens = AccessTokens(
        config.token_keys,
        config=TokenConfig(issuer=config.public_url, audience=config.public_url, ttl_s=config.token_ttl_s),
        revocations=revocations,
    )
    stream_options = StreamOptions(
        max_lifetime_s=config.realtime_lifetime_s, allowed_origins=frozenset({config.public_url, *config.cors_origins})
    )
    realtime = _realtime(
        config, opened, tokens=tokens, revocations=revocations, options=stream_options, observe=observe
    )
    identity = Identity(
        opened.db, hasher=hasher, tokens=tokens, revocations=revocations, kick=opened.kick,
        config=IdentityConfig(code_pepper=config.code_pepper.encode(), scopes=USER_SCOPES),
    )  # fmt: skip
    poster = Poster(opened.db, write=wallet_store.post_transfers)
    handlers = [
        identity_operations.Operations(identity),
        wallet_operations.Operations(opened.db, name_of=_name_of(opened)),
        TransferOperations(_transfers(config, opened, poster)),
        payments_operations.Operations(
            opened.db, deposits=_deposits(config, opened), gateways=opened.gateways, kick=opened.kick
        ),
        Webhooks(opened.db, razorpay=opened.gateways["razorpay"], kick=opened.kick),
        realtime_operations.Operations(realtime, ticket_ttl_s=stream_options.ticket_ttl_s),
    ]

    async def by_ticket(request: web.Request, credential: str, scopes: object) -> object:
        return await realtime.tickets.redeem(credential)

    events = EventsDocument.load(CONTRACTS / "events.yaml")
    app = create_api(
        load_contracts(CONTRACTS, SLICES),
        operations=operations(handlers),
        security={"bearerAuth": tokens.verify, "ticket": by_ticket},
        options=_runtime_options(config, violations, cursor=lambda: realtime.cursor),
        extra_routes=[
            *Health(opened.db, opened.redis, draining=lambda: realtime.draining).routes(),
            *console.routes(event.name for event in events.events),
            *events_routes(events, base_path="/v1"),
            web.get("/v1/realtime/ws", realtime.websocket_handler),
        ],
    )
    return Api(app, realtime, revocations, hasher, poster)


def operations(handlers: list[object]) -> dict[str, Handler]:
    """operationId → method: `createDeposit` is the one `create_deposit` among the slices' operations."""
    found: dict[str, Handler] = {}
    for handler in handlers:
        for name in dir(handler):
            if not name.startswith("_"):
                operation_id = re.sub(r"_([a-z])", lambda match: match[1].upper(), name)
                if operation_id in found:
                    raise ValueError(f"operation {operation_id} is in two slices")
                found[operation_id] = getattr(handler, name)
    return found


def create_relay(opened: Resources) -> Relay:
    """The process that moves committed events to the log."""
    return Relay(opened.db, opened.redis, StreamOptions())


def create_consumers(opened: Resources) -> Consumers:
    """The process that runs the readers of the log."""
    return Consumers(opened.db, opened.redis, CONSUMERS, StreamOptions())


def create_vendor_sandbox(config: Config) -> web.Application:
    """Local stand-ins for the vendors, on their wire formats."""
    config.sandbox_dir.mkdir(parents=True, exist_ok=True)
    return create_sandbox(
        SandboxConfig(
            razorpay=RazorpaySandboxConfig(
                key_id=config.razorpay_key_id,
                key_secret=config.razorpay_key_secret,
                webhook_secret=config.razorpay_webhook_secrets[0],
                webhook_url=f"{config.public_url}/v1/webhooks/razorpay",
                account_id="acc_SbxSandbox0001",
                database=config.sandbox_dir / "razorpay.sqlite",
            ),
            smtp=SmtpSandboxConfig(port=config.sandbox_smtp_port, database=config.sandbox_dir / "mail.sqlite"),
        )
    )


def _deposits(config: Config, opened: Resources) -> Deposits:
    payments = PaymentsConfig(public_url=config.public_url, gateway="razorpay")
    return Deposits(opened.db, gateways=opened.gateways, config=payments)


def _name_of(opened: Resources) -> wallet_operations.NameOf:
    async def name_of(user_id: str) -> str | None:
        async with opened.db.connection() as conn:
            user = await identity_store.find_user(conn, user_id)
        return None if user is None else user.display_name

    return name_of


def _transfers(config: Config, opened: Resources, poster: Poster) -> wallet_service.Transfers:
    async def user_exists(user_id: str) -> bool:
        async with opened.db.connection() as conn:
            return await identity_store.find_user(conn, user_id) is not None

    return wallet_service.Transfers(
        opened.db, poster=poster, user_exists=user_exists, closed_loop=config.wallet_closed_loop
    )


def _realtime(
    config: Config, opened: Resources, *, tokens: AccessTokens, revocations: Revocations, options: StreamOptions,
    observe: Observer | None,
) -> Realtime:  # fmt: skip
    async def authenticate(token: str) -> Principal:
        return await tokens.check(token, ("realtime:read",))

    async def revoked_among(sessions: frozenset[str]) -> list[str]:
        return [session for session in sessions if await revocations.is_revoked(session)]

    async def started_among(asked: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        async with opened.db.connection() as conn:
            return await payments_store.started_among(conn, asked)

    return Realtime(
        opened.db, opened.redis, cursor_secrets=config.cursor_secrets, authenticate=authenticate,
        rights=ChannelRights(opened.db, started_among=started_among), revoked_among=revoked_among, options=options,
        observe=observe,
    )  # fmt: skip


def _runtime_options(config: Config, violations: list[str] | None, *, cursor: Callable[[], str]) -> RuntimeOptions:
    return RuntimeOptions(
        type_base=config.problem_base, title="Matchday", cors_origins=config.cors_origins,
        description="Contract-first backend for sports and recreation: identity, wallet, payments, realtime.",
        hsts=config.hsts, response_validation=config.response_validation, response_violations=violations,
        links=(("Events", "/docs/events"), ("Realtime console", "/realtime/console"), ("Health", "/health/ready")),
        cursor=cursor,
    )  # fmt: skip


def _razorpay(config: Config) -> RazorpayConfig:
    return RazorpayConfig(
        key_id=config.razorpay_key_id, key_secret=config.razorpay_key_secret,
        webhook_secrets=config.razorpay_webhook_secrets, merchant_name="Matchday", base_url=config.razorpay_url,
    )  # fmt: skip


def _smtp(config: Config) -> SmtpConfig:
    return SmtpConfig(
        host=config.smtp_host, port=config.smtp_port, sender_name="Matchday", sender_address=config.mail_from,
        starttls=config.smtp_starttls, username=config.smtp_username, password=config.smtp_password,
    )  # fmt: skip
