"""Mail that is owed gets sent, whatever is lost on the way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from contracts import ids
from handlers.identity.jobs import Jobs
from integrations.ports import EmailMessage, ProviderOutcomeUnknown, ProviderRefused, ProviderUnavailable

SIGN_UP = {"email": "player@example.com", "password": "seven green shuttles", "display_name": "Smash"}


class SlowCarrier:
    """Takes a mail and holds it until `release` is set, then raises `fault` if there is one."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.taken: list[EmailMessage] = []
        self.has_one = asyncio.Event()
        self.release = asyncio.Event()

    async def send(self, message: EmailMessage) -> None:
        self.taken.append(message)
        self.has_one.set()
        await self.release.wait()
        if self.fault is not None:
            raise self.fault


async def owe(stack: Any, count: int = 1) -> None:
    for number in range(count):
        answer = await stack.post("/sign-ups", {**SIGN_UP, "email": f"player{number}@example.com"})
        assert answer.status == 202


async def test_sweep_sends_what_a_lost_kick_left_behind(stack: Any) -> None:
    await owe(stack)
    stack.kicks.clear()
    assert await stack.jobs.send_due_emails() == 1
    assert [mail.to for mail in stack.mailbox.sent] == ["player0@example.com"]
    assert await stack.value("SELECT sent_at IS NOT NULL AND text IS NULL FROM emails")
    assert await stack.jobs.send_due_emails() == 0


@pytest.mark.parametrize("fault", [ConnectionError("queue is down"), TimeoutError()])
async def test_sign_up_succeeds_when_the_queue_is_down(stack: Any, fault: Exception) -> None:
    async def broken(task: str, **arguments: Any) -> None:
        raise fault

    stack.service._kick = broken
    await owe(stack)
    assert await stack.jobs.send_due_emails() == 1


async def test_sign_up_does_not_wait_for_a_queue_that_hangs(stack: Any) -> None:
    async def hanging(task: str, **arguments: Any) -> None:
        await asyncio.Event().wait()

    stack.service._kick = hanging
    async with asyncio.timeout(5):
        await owe(stack)


async def test_two_sweeps_at_once_send_each_mail_once(stack: Any) -> None:
    await owe(stack, 12)
    tried = await asyncio.gather(*(stack.jobs.send_due_emails() for _ in range(4)))
    assert sum(tried) == 12
    assert len({mail.message_id for mail in stack.mailbox.sent}) == len(stack.mailbox.sent) == 12


async def test_a_mail_in_one_workers_hands_is_left_alone_until_its_lease_ends(stack: Any) -> None:
    await owe(stack)
    email_id = stack.kicks[0]
    carrier = SlowCarrier()
    first = asyncio.create_task(Jobs(stack.database, sender=carrier).send_email(email_id))
    await carrier.has_one.wait()
    await stack.jobs.send_email(email_id)
    assert await stack.jobs.send_due_emails() == 0
    assert stack.mailbox.sent == []

    # The first worker is taken for dead: the mail goes out again, recognisably the same.
    await stack.value("UPDATE emails SET leased_until = now() - interval '1 second'")
    assert await stack.jobs.send_due_emails() == 1
    assert [mail.message_id for mail in stack.mailbox.sent] == [carrier.taken[0].message_id] == [email_id]
    carrier.release.set()
    await first
    assert await stack.value("SELECT sent_at IS NOT NULL FROM emails")


async def test_a_worker_that_lost_its_lease_does_not_postpone_what_another_sends(stack: Any) -> None:
    await owe(stack)
    carrier = SlowCarrier(ProviderUnavailable("smtp", "mail.send", "down"))
    slow = asyncio.create_task(Jobs(stack.database, sender=carrier).send_email(stack.kicks[0]))
    await carrier.has_one.wait()
    await stack.value("UPDATE emails SET leased_until = now() + interval '1 hour'")
    carrier.release.set()
    await slow
    assert await stack.value("SELECT leased_until > now() AND last_error IS NULL FROM emails")


@pytest.mark.parametrize(
    ("fault", "error", "low_s", "high_s"),
    [
        (ProviderUnavailable("smtp", "mail.send", "down"), "ProviderUnavailable", 4, 5),
        (ProviderUnavailable("smtp", "mail.send", "busy", retry_after_s=90), "ProviderUnavailable", 89, 90),
        (ProviderOutcomeUnknown("smtp", "mail.send", "cut off"), "ProviderOutcomeUnknown", 4, 5),
        (RuntimeError("a bug"), "RuntimeError", 4, 5),
    ],
)
async def test_a_mail_that_was_not_taken_is_tried_again_later(
    stack: Any, fault: Exception, error: str, low_s: int, high_s: int
) -> None:
    await owe(stack)
    stack.mailbox.fault = fault
    await stack.jobs.send_email(stack.kicks[0])
    row = await stack.value("SELECT to_jsonb(emails) FROM emails")
    assert (row["attempts"], row["last_error"], row["sent_at"], row["failed_at"]) == (1, error, None, None)
    delay = "SELECT extract(epoch FROM next_attempt_at - now()) FROM emails"
    assert low_s <= await stack.value(delay) <= high_s
    assert await stack.jobs.send_due_emails() == 0

    stack.mailbox.fault = None
    await stack.value("UPDATE emails SET next_attempt_at = now()")
    assert await stack.jobs.send_due_emails() == 1
    assert [mail.message_id for mail in stack.mailbox.sent] == [stack.kicks[0]]


async def test_one_mail_that_fails_does_not_hold_up_the_others(stack: Any) -> None:
    await owe(stack, 3)

    class Picky:
        async def send(self, message: EmailMessage) -> None:
            if message.to == "player0@example.com":
                raise RuntimeError("a bug")
            await stack.mailbox.send(message)

    assert await Jobs(stack.database, sender=Picky()).send_due_emails() == 3
    assert sorted(mail.to for mail in stack.mailbox.sent) == ["player1@example.com", "player2@example.com"]


async def test_a_mail_refused_for_good_is_given_up_and_its_text_forgotten(stack: Any) -> None:
    await owe(stack)
    stack.mailbox.fault = ProviderRefused("smtp", "mail.send", "no such user", status=550, code=None, field=None)
    await stack.jobs.send_email(stack.kicks[0])
    row = await stack.value("SELECT to_jsonb(emails) FROM emails")
    assert row["failed_at"] is not None
    assert (row["text"], row["last_error"]) == (None, "ProviderRefused")
    stack.mailbox.fault = None
    assert await stack.jobs.send_due_emails() == 0


async def test_a_mail_that_would_come_too_late_is_given_up(stack: Any) -> None:
    await owe(stack)
    await stack.value("UPDATE emails SET expires_at = now() + interval '3 seconds'")
    stack.mailbox.fault = ProviderUnavailable("smtp", "mail.send", "down")
    await stack.jobs.send_email(stack.kicks[0])
    assert await stack.value("SELECT failed_at IS NOT NULL AND text IS NULL FROM emails")


async def test_unknown_mail_is_nobodys_business(stack: Any) -> None:
    await stack.jobs.send_email(ids.new("eml"))
    assert stack.mailbox.sent == []
