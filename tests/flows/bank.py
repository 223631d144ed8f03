"""A stack of processes to be killed, and clients who send money to each other, each with a book of its own."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
from aiohttp.test_utils import unused_port

from contracts import ids
from contracts.money import Money
from handlers.identity.sessions import Revocations
from handlers.identity.tokens import AccessTokens, TokenConfig
from ledger import checks, journal, recipes
from matchday import config
from matchday.home import Home
from storage.db import Database
from storage.embedded import EmbeddedPostgres, EmbeddedValkey
from storage.migrations import migrate
from tests.client import reached

CLIENT = Path(__file__).with_name("transfer_client.py")
DATABASE, LOGIN = "bank", "bank"
FUNDS = Money.parse("2000.00", "INR")
SCOPES = ["wallet:read", "wallet:write"]
START_S = 60.0


class Player:
    """A user, its client process, and the book that outlives that. `answers` counts what was answered so far."""

    def __init__(self, book: Path) -> None:
        self.user_id, self.session_id = ids.new("usr"), ids.new("ses")
        self.token = ""
        self.book = book
        self.answers = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._read = 0

    def look(self) -> None:
        """Count the answers that came since the last look."""
        if self.book.exists():
            with self.book.open("rb") as lines:
                lines.seek(self._read)
                new = lines.read()
            self._read += len(new)
            self.answers += new.count(b'{"what": "answered"')

    def lines(self, what: str) -> list[dict[str, Any]]:
        """What its book says, in order."""
        return [line for line in map(json.loads, self.book.read_text("utf-8").splitlines()) if line["what"] == what]


class Bank:
    """PostgreSQL with its default durability, Valkey, and the API; and players, who begin with the same funds."""

    def __init__(self, folder: Path, players: int) -> None:
        self._folder = folder
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self._valkey = EmbeddedValkey(folder / "valkey")
        self.players = [Player(folder / f"book-{n}.jsonl") for n in range(players)]
        self.api: subprocess.Popen[bytes] | None = None
        self._environ: dict[str, str] = {}

    def open(self) -> None:
        self.postgres.start()
        self._valkey.start()
        self.postgres.ensure_database(DATABASE)
        migrate(self.postgres.dsn(DATABASE))
        self.postgres.ensure_login(LOGIN, member_of="matchday_app")
        (self._folder / "home").mkdir()
        self._environ = Home(self._folder / "home").environment(
            {
                "DATABASE_URL": self.postgres.dsn(DATABASE, user=LOGIN),
                "REDIS_URL": self._valkey.url,
                "MATCHDAY_PORT": str(unused_port()),
                "WALLET_CLOSED_LOOP": "false",
                "RESPONSE_VALIDATION": "strict",
            }
        )
        self._enrol()
        asyncio.run(self._fund())
        self.start_api()

    def close(self) -> None:
        for process in [*(player.process for player in self.players), self.api]:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self._valkey.stop()
        self.postgres.stop()

    def start_api(self) -> None:
        """Start the API; the players find out by themselves when it answers."""
        with (self._folder / "api.log").open("ab") as log:
            self.api = subprocess.Popen(
                [sys.executable, "-P", "-m", "matchday", "serve"], env={**os.environ, **self._environ},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def start_player(self, player: Player, seed: int, *, finish: bool = False) -> None:
        """Start a client; with `finish` it settles what is open and ends."""
        told = {
            "name": self.players.index(player), "token": player.token, "book": str(player.book), "seed": seed,
            "others": [other.user_id for other in self.players if other is not player],
            "host": "127.0.0.1", "port": int(self._environ["MATCHDAY_PORT"]), "finish": finish,
        }  # fmt: skip
        player.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(CLIENT), json.dumps(told)], stdin=subprocess.DEVNULL
        )

    def kill_postgres(self) -> None:
        """Kill all of PostgreSQL as a lost machine would, and bring it back."""
        assert self.postgres.process is not None
        self.postgres.process.kill()
        self.postgres.process.wait()

        def back() -> bool:
            try:
                self.postgres.start()
            except RuntimeError:  # sessions of the dead server are still on their way out
                return False
            return True

        reached(back, what="a PostgreSQL that is back", within_s=START_S)

    def kill_session(self, dice: random.Random) -> None:
        """Kill one of the processes of PostgreSQL; it then ends all the others and recovers by itself."""
        assert self.postgres.process is not None
        family = psutil.Process(self.postgres.process.pid).children()
        sessions = [child for child in family if f" {DATABASE} " in " ".join(child.cmdline())]
        dice.choice(sessions or family).kill()

    def answers(self) -> int:
        for player in self.players:
            player.look()
        return sum(player.answers for player in self.players)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.postgres.dsn(DATABASE)) as connection:
            return connection.execute(statement).fetchall()

    def violations(self) -> list[str]:
        async def audit() -> list[str]:
            database = Database(self.postgres.dsn(DATABASE, user=LOGIN))
            await database.connect()
            async with database.connection() as conn:
                found = await checks.violations(conn)
            await database.disconnect()
            return found

        return asyncio.run(audit())

    @property
    def api_url(self) -> str:
        return self._environ["PUBLIC_URL"]

    def _enrol(self) -> None:
        settings = config.read(self._environ)
        until = datetime.now(UTC) + timedelta(hours=1)
        tokens = AccessTokens(
            settings.token_keys, revocations=Revocations(Database(settings.database_url)),
            config=TokenConfig(issuer=settings.public_url, audience=settings.public_url),
        )  # fmt: skip
        with psycopg.connect(self.postgres.dsn(DATABASE)) as connection:
            for player in self.players:
                email = f"{player.user_id}@example.com"
                connection.execute(
                    "INSERT INTO users (id, email, email_key, email_verified_at, display_name) "
                    "VALUES (%s, %s, %s, now(), 'Smash')", (player.user_id, email, email),
                )  # fmt: skip
                connection.execute(
                    "INSERT INTO sessions (id, user_id, scopes, expires_at) VALUES (%s, %s, %s, %s)",
                    (player.session_id, player.user_id, SCOPES, until),
                )
                player.token = tokens.issue(
                    user_id=player.user_id, session_id=player.session_id, scopes=SCOPES, at=datetime.now(UTC),
                    until=until,
                )  # fmt: skip

    async def _fund(self) -> None:
        database = Database(self.postgres.dsn(DATABASE, user=LOGIN))
        await database.connect()
        async with database.transaction() as conn:
            for player in self.players:
                await journal.post(
                    conn,
                    recipes.deposit(
                        user_id=player.user_id, gateway="razorpay", payment_id=player.user_id, amount=FUNDS,
                        deposit_id=player.user_id, happened_at=datetime.now(UTC),
                    ),
                )  # fmt: skip
        await database.disconnect()


@contextmanager
def open_bank(folder: Path, *, players: int) -> Iterator[Bank]:
    bank = Bank(folder, players)
    try:
        bank.open()
        yield bank
    except BaseException:
        print((folder / "api.log").read_text("utf-8")[-20_000:])  # pytest shows it with the failure
        raise
    finally:
        bank.close()
