"""Who may read which channel, on a real database and over both transports: memberships come and go with their commit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.asyncio import Redis

from contracts import ids
from handlers.identity import store as identity
from handlers.identity.sessions import Revocations
from handlers.payments import store as payments
from handlers.realtime import members
from handlers.realtime.rights import ChannelRights
from storage.db import Database
from streams.admission import Asked
from streams.options import StreamOptions
from tests.integration.realtime.conftest import Real, change
from tests.streams.harness import (
    Node,
    SseClient,
    WsClient,
    emit,
    reached,
    relaying,
    serving,
    signed_up,
    user_id,
)

WITHIN_S = 2.0


async def deposit_of(database: Database, user: str) -> str:
    deposit_id = ids.new("dep")
    async with database.transaction() as conn:
        await payments.Q.open_deposit(
            conn, id=deposit_id, user_id=user, amount=500, currency="INR", gateway="razorpay",
            key_hash=random.randbytes(32), checkout_id=ids.new("chk"),
        )  # fmt: skip
    return deposit_id


async def test_each_kind_is_read_by_those_of_its_rule(database: Database, rights: ChannelRights) -> None:
    me, other = user_id(), user_id()
    mine, theirs = await deposit_of(database, me), await deposit_of(database, other)
    game, club = f"activity:{ids.new('act')}", f"organisation:{ids.new('org')}"
    await change(database, (me, game), (other, club), (me, "back_office:kyc"))
    channels = [
        f"user:{me}", f"user:{other}", f"wallet:{me}", f"wallet:{other}", f"payment:{mine}", f"payment:{theirs}",
        f"payment:{ids.new('dep')}", game, club, "back_office:kyc", "back_office:support", "back_office:kitchen", "x", "",
    ]  # fmt: skip
    asked = [(user, channel) for user in (me, other) for channel in channels]
    assert await rights.readable_among(asked) == {
        (me, f"user:{me}"), (me, f"wallet:{me}"), (me, f"payment:{mine}"), (me, game), (me, "back_office:kyc"),
        (other, f"user:{other}"), (other, f"wallet:{other}"), (other, f"payment:{theirs}"), (other, club),
    }  # fmt: skip
    assert await rights.readable_among([]) == set()


async def test_any_mixture_is_answered_as_if_each_were_asked_alone(database: Database, rights: ChannelRights) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    dice = random.Random(seed)
    users = [user_id() for _ in range(5)]
    games = [f"activity:{ids.new('act')}" for _ in range(8)]
    model: set[Asked] = set()
    for _ in range(20):
        pair = (dice.choice(users), dice.choice(games))
        if dice.random() < 0.6:
            await change(database, pair)
            model.add(pair)
        else:
            await change(database, withdrawn=[pair])
            model.discard(pair)
        asked = [(dice.choice(users), dice.choice(games)) for _ in range(dice.randint(1, 40))]
        assert await rights.readable_among(asked) == model & set(asked)


async def test_a_membership_commits_with_the_change_that_gives_it(database: Database, rights: ChannelRights) -> None:
    me, game = user_id(), f"activity:{ids.new('act')}"
    with pytest.raises(RuntimeError):
        async with database.transaction() as conn:
            assert await members.grant(conn, game, me)
            raise RuntimeError
    assert await rights.readable_among([(me, game)]) == set()
    async with database.transaction() as conn:
        assert [await members.grant(conn, game, me) for _ in range(2)] == [True, False]
        assert [row["user_id"] for row in await members.of_channel(conn, game)] == [me]
        assert [row["channel"] for row in await members.of_user(conn, me)] == [game]
        assert [await members.withdraw(conn, game, me) for _ in range(2)] == [True, False]
        assert await members.of_user(conn, me) == []


@pytest.mark.parametrize(
    "channel", ["user:usr_1", f"wallet:{user_id()}", "back_office:kitchen", "activity:", "pitch:1"]
)
async def test_nobody_is_made_a_member_of_what_has_none(database: Database, channel: str) -> None:
    async with database.transaction() as conn:
        for act in (members.grant, members.withdraw):
            with pytest.raises(ValueError, match="no channel that has members"):
                await act(conn, channel, user_id())


@dataclass
class Following(Real):
    """And the product's knowledge of what was revoked."""

    revocations: Revocations = field(kw_only=True)

    async def revoked_among(self, session_ids: frozenset[str]) -> list[str]:
        return [session_id for session_id in session_ids if await self.revocations.is_revoked(session_id)]


@pytest.fixture
async def node(database: Database, redis: Redis, rights: ChannelRights) -> AsyncIterator[Node]:
    """As in production, but for the length of its good-bye."""
    async with (
        relaying(database, redis, StreamOptions()),
        serving(database, redis, Real(rights=rights), StreamOptions(drain_s=0.0)) as node,
    ):
        yield node


async def test_a_withdrawn_membership_is_gone_in_two_seconds_on_both_transports(database: Database, node: Node) -> None:
    token, me = node.people.sign_in()
    game, desk = f"activity:{ids.new('act')}", "back_office:support"
    await change(database, (me.user_id, game), (me.user_id, desk))
    channels = [f"user:{me.user_id}", game, desk]
    clients: list[WsClient | SseClient] = [
        await WsClient.open(node, token, channels=channels),
        await SseClient.open(node, token, channels=",".join(channels)),
    ]
    begin = clients[0].first["cursor"]
    kept = await emit(database, signed_up(me.user_id, channels=(game,)))
    for client in clients:
        assert client.first["refused"] == []
        await reached(lambda client=client: client.event_ids == kept)

    await change(database, withdrawn=[(me.user_id, game)])
    loop = asyncio.get_running_loop()
    committed_at = loop.time()
    await reached(lambda: all(client.of("unsubscribed") for client in clients))
    assert loop.time() - committed_at <= WITHIN_S
    await emit(database, signed_up(me.user_id, channels=(game,)))
    later = await emit(database, signed_up(me.user_id, channels=(desk,)), signed_up(me.user_id))
    for client in clients:
        assert [message["channels"] for message in client.of("unsubscribed")] == [[game]]
        await reached(lambda client=client: len(client.event_ids) >= 3)
        assert client.event_ids == kept + later
        await client.close()

    again = await WsClient.open(node, token, channels=channels, cursor=begin)
    await reached(lambda: len(again.event_ids) >= 2)
    assert (again.first["refused"], again.first["count"], again.event_ids) == ([game], 2, later)
    await again.close()


async def test_a_session_revoked_by_another_process_ends_its_streams_in_two_seconds(
    database: Database, redis: Redis, rights: ChannelRights
) -> None:
    """The other process writes; this one follows what was revoked, and asks about its open streams."""
    people = Following(rights=rights, revocations=Revocations(database))
    token, me = people.sign_in()
    async with database.transaction() as conn:
        sign_up = await identity.add_sign_up(
            conn, ids.new("sup"), email="player@example.com", email_key="player@example.com", display_name="Smash",
            password_hash="-", code_digest=random.randbytes(32), code_ttl_s=600,
        )  # fmt: skip
        await identity.add_user(conn, me.user_id, sign_up=sign_up)
        await identity.add_session(conn, me.session_id, user_id=me.user_id, scopes=["realtime:read"], ttl_s=900)
    await people.revocations.start()
    try:
        async with serving(database, redis, people, StreamOptions(drain_s=0.0)) as node:
            loop = asyncio.get_running_loop()
            for _ in range(3):  # at whatever moments of both clocks
                clients = [await WsClient.open(node, token), await SseClient.open(node, token)]
                async with database.transaction() as conn:
                    await identity.Q.revoke_session(conn, id=me.session_id)
                revoked_at = loop.time()
                await reached(lambda clients=clients: all(client.reader.done() for client in clients))
                assert loop.time() - revoked_at <= WITHIN_S
                token, me = people.sign_in(user=me.user_id)
                async with database.transaction() as conn:
                    await identity.add_session(conn, me.session_id, user_id=me.user_id, scopes=[], ttl_s=900)
    finally:
        await people.revocations.stop()


async def test_a_stream_carries_ones_own_channels_and_others_by_name(database: Database, node: Node) -> None:
    token, me = node.people.sign_in()
    deposit = f"payment:{await deposit_of(database, me.user_id)}"
    await change(database, (me.user_id, "back_office:support"))
    client = await WsClient.open(node, token)
    assert client.first["channels"] == sorted(node.people.default_channels(me.user_id))
    foreign = f"payment:{ids.new('dep')}"
    await client.socket.send_json({"op": "subscribe", "channels": [deposit, foreign, "back_office:support"]})
    await reached(lambda: client.of("subscribed"))
    [answer] = client.of("subscribed")
    assert answer["refused"] == [foreign]
    assert {deposit, "back_office:support"} <= set(answer["channels"])
    await client.close()


def test_the_options_keep_the_promise() -> None:
    """A round of questions a second, and as much again for a slow answer."""
    assert StreamOptions().revocation_check_s * 2 <= WITHIN_S


async def test_many_streams_are_one_query(database: Database, rights: ChannelRights) -> None:
    """Two thousand people with five channels each, in one round of questions."""
    users = [user_id() for _ in range(2000)]
    games = [f"activity:{ids.new('act')}" for _ in range(5)]
    pairs = [(user, game) for user in users for game in games]
    async with database.transaction() as conn:
        await conn.raw.executemany("INSERT INTO channel_members (user_id, channel) VALUES ($1, $2)", pairs[::2])
        statements: list[Any] = []
        conn.raw.add_query_logger(statements.append)
        assert await rights.readable_among(pairs) == set(pairs[::2])
        conn.raw.remove_query_logger(statements.append)
    assert len(statements) == 1
