"""kill -9 under load: of PostgreSQL, of the API, of clients between request and answer. The books have to agree after it.

FUZZ_KILLS says how many kills there are, FUZZ_SEED which.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from decimal import Decimal

import pytest
import requests

from tests.client import reached
from tests.conftest import server_folder
from tests.flows.bank import FUNDS, Bank, Player, open_bank

KILLS = int(os.environ.get("FUZZ_KILLS", "100"))
PLAYERS = 8
PATIENCE_S = 60.0
ASKED_AGAIN = 40
# So many answers between two kills of a server, and of a client.
SERVED, SERVED_CLIENT = 30, 8


class Killer:
    """Kills one victim after another, each only after enough was answered since the last kill of its kind."""

    def __init__(self, bank: Bank, dice: random.Random, kills: int) -> None:
        self._bank = bank
        self._dice = dice
        eighth = kills // 8
        self._left = Counter(
            {"postgres": eighth, "session": kills // 4 - eighth, "api": eighth, "client": kills - kills // 4 - eighth}
        )
        self._answers_at: Counter[str] = Counter()
        self.done: Counter[str] = Counter()

    def run(self) -> None:
        while +self._left:
            kind, player = reached(self._next, what="another answer", within_s=PATIENCE_S, every_s=0.005)
            time.sleep(self._dice.uniform(0, 0.03))  # at a moment that nobody chose
            self._kill(kind, player)
            self._left[kind] -= 1
            self.done[kind] += 1

    def _next(self) -> tuple[str, Player | None] | None:
        """Somebody whose turn it is, and who has served or been served since the last time."""
        answers = self._bank.answers()
        self._tend()
        servers = [kind for kind in ("postgres", "session", "api") if self._left[kind]]
        ready = [kind for kind in servers if answers >= self._answers_at[self._server_of(kind)] + SERVED]
        players = [
            player for player in self._bank.players
            if player.answers >= self._answers_at[player.user_id] + SERVED_CLIENT
        ]  # fmt: skip
        if self._left["client"] and players:
            ready.append("client")
        if not ready:
            return None
        (kind,) = self._dice.choices(ready, [self._left[kind] for kind in ready])
        return kind, self._dice.choice(players) if kind == "client" else None

    def _kill(self, kind: str, player: Player | None) -> None:
        bank = self._bank
        if player is not None:
            assert player.process is not None
            player.process.kill()
            player.process.wait()
            self._answers_at[player.user_id] = player.answers
            bank.start_player(player, self._dice.getrandbits(32))
            return
        if kind == "postgres":
            bank.kill_postgres()
        elif kind == "session":
            bank.kill_session(self._dice)
        else:
            assert bank.api is not None
            bank.api.kill()
            bank.api.wait()
            bank.start_api()
        self._answers_at[self._server_of(kind)] = bank.answers()

    def _tend(self) -> None:
        assert all(player.process is not None and player.process.poll() is None for player in self._bank.players)
        assert self._bank.api is not None
        if self._bank.api.poll() is not None:  # it could not start while there was no database
            self._bank.start_api()

    @staticmethod
    def _server_of(kind: str) -> str:
        return "api" if kind == "api" else "postgres"


def settle(bank: Bank, dice: random.Random) -> None:
    """End all clients in the middle of what they do, and have each resolve what it does not know."""
    for player in bank.players:
        assert player.process is not None
        player.process.kill()
        player.process.wait()
        bank.start_player(player, dice.getrandbits(32), finish=True)
    for player in bank.players:
        assert player.process is not None
        assert player.process.wait(PATIENCE_S) == 0


def test_nothing_acknowledged_is_lost_and_nothing_is_done_twice(capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("FUZZ_SEED", "0")) or random.randrange(2**32)
    dice = random.Random(seed)
    with server_folder() as folder, open_bank(folder, players=PLAYERS) as bank:
        began_at = time.monotonic()
        for player in bank.players:
            bank.start_player(player, dice.getrandbits(32))
        killer = Killer(bank, dice, KILLS)
        killer.run()
        settle(bank, dice)
        took_s = time.monotonic() - began_at

        wanted = {line["key"]: (player, line["body"]) for player in bank.players for line in player.lines("wanted")}
        answers = {line["key"]: line for player in bank.players for line in player.lines("answered")}
        unknown = {line["key"] for player in bank.players for line in player.lines("lost")}
        made = {key: line["document"] for key, line in answers.items() if line["status"] == 201}
        became = Counter(
            "refused" if answers[key]["status"] == 422 else "written" if answers[key]["replayed"] else "not written"
            for key in unknown
        )
        with capsys.disabled():
            print(
                f"\nseed {seed}: {killer.done.total()} kills in {took_s:.0f} s {dict(killer.done)}; "
                f"{len(wanted)} wanted, {len(made)} acknowledged, {len(answers) - len(made)} refused; "
                f"{len(unknown)} unknown, found {dict(became)}"
            )

        assert answers.keys() == wanted.keys()
        assert {line["document"]["code"] for line in answers.values() if line["status"] == 422} <= {
            "wallet.insufficient_funds"
        }
        assert unknown
        assert bank.violations() == []
        agree(bank, wanted, made)
        ask_again(bank, wanted, made, dice)


def agree(bank: Bank, wanted: dict[str, tuple[Player, dict[str, object]]], made: dict[str, dict[str, object]]) -> None:
    """The ledger and the log know what the clients' books say, and nothing else."""
    written = bank.rows("SELECT id::text, kind FROM ledger.transactions WHERE kind = 'transfer'")
    acknowledged = {str(document["transaction_id"]) for document in made.values()}
    assert len(acknowledged) == len(made) == len(written)
    known = bank.rows(
        "SELECT data->>'transaction_id', array_agg(type ORDER BY type) FROM "
        "(SELECT type, data FROM outbox UNION ALL SELECT type, data FROM event_log) e GROUP BY 1"
    )
    assert dict(known) == {key: ["wallet.credited", "wallet.debited"] for key in acknowledged}
    balances = {f"wallet:{player.user_id}": FUNDS.amount for player in bank.players}
    for key, document in made.items():
        player, body = wanted[key]
        amount = Decimal(body["amount"]["amount"])  # type: ignore[index]
        assert (document["from"], document["to"], document["amount"]) == (player.user_id, body["to"], body["amount"])
        balances[f"wallet:{player.user_id}"] -= amount
        balances[f"wallet:{body['to']}"] += amount
    found = bank.rows(
        "SELECT a.code, b.credits - b.debits FROM ledger.accounts a JOIN ledger.balances b ON b.account_id = a.id "
        "WHERE a.code LIKE 'wallet:%'"
    )
    assert dict(found) == balances


def ask_again(
    bank: Bank, wanted: dict[str, tuple[Player, dict[str, object]]], made: dict[str, dict[str, object]],
    dice: random.Random,
) -> None:  # fmt: skip
    """Whatever was acknowledged is acknowledged again, to the letter."""
    for key in dice.sample(sorted(made), min(ASKED_AGAIN, len(made))):
        player, body = wanted[key]
        headers = {"Authorization": f"Bearer {player.token}", "Idempotency-Key": key}
        answer = requests.post(f"{bank.api_url}/v1/wallet/transfers", json=body, headers=headers, timeout=PATIENCE_S)
        assert (answer.status_code, answer.json()) == (201, made[key])
        assert answer.headers["Idempotent-Replayed"] == "true"
