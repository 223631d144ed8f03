"""Mail through a real SMTP conversation, into the inbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from integrations.ports import EmailMessage, EmailSender, ProviderOutcomeUnknown, ProviderRefused, ProviderUnavailable
from integrations.smtp import SmtpConfig, SmtpSender
from tests.providers.conftest import Sandbox

Script = list[tuple[str, str | None]]


def sender_for(port: int, *, starttls: bool = False, timeout_s: float = 5.0) -> EmailSender:
    return SmtpSender(
        SmtpConfig(
            host="127.0.0.1",
            port=port,
            sender_name="Matchday",
            sender_address="no-reply@matchday.example",
            starttls=starttls,
            timeout_s=timeout_s,
        )
    )


def mail(**changes: str) -> EmailMessage:
    fields = {"message_id": "msg_01jd4q", "to": "player@example.com", "subject": "Your code", "text": "Code: 482913"}
    return EmailMessage(**{**fields, **changes})


@pytest.fixture
async def relay() -> AsyncIterator[Callable[[Script], Awaitable[int]]]:
    """Start a server that answers each command as scripted; None means silence, "cut" hangs up."""
    servers: list[asyncio.Server] = []

    async def start(script: Script) -> int:
        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 relay ESMTP\r\n")
            answers = dict(script)
            in_data = False
            while line := (await reader.readline()).decode():
                command = "." if in_data and line == ".\r\n" else "" if in_data else line.split()[0].upper()
                if not command:
                    continue
                answer = answers.get(command, "250 OK")
                in_data = command == "DATA" and answer is not None and answer.startswith("354")
                if answer == "cut":
                    break
                if answer is not None:
                    writer.write(f"{answer}\r\n".encode())
            writer.close()

        server = await asyncio.start_server(converse, "127.0.0.1", 0)
        servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    yield start
    for server in servers:
        server.close()


async def test_a_mail_arrives_with_its_text_and_a_message_id_of_ours(sandbox: Sandbox) -> None:
    await sender_for(sandbox.smtp_port).send(mail(text="Ihr Code: ₹ 482913\n"))
    [kept] = await sandbox.items("/_sandbox/inbox?to=PLAYER@example.com")
    assert kept["to"] == "player@example.com"
    assert kept["subject"] == "Your code"
    assert kept["text"].strip() == "Ihr Code: ₹ 482913"
    assert kept["message_id"] == "<msg_01jd4q@matchday.example>"
    assert kept["received_at"]


async def test_a_repeated_mail_carries_the_same_message_id(sandbox: Sandbox) -> None:
    sender = sender_for(sandbox.smtp_port)
    await sender.send(mail())
    await sender.send(mail(subject="Your code, again"))
    kept = await sandbox.items("/_sandbox/inbox")
    assert [item["subject"] for item in kept] == ["Your code, again", "Your code"]
    assert len({item["message_id"] for item in kept}) == 1


async def test_the_inbox_page_lists_filters_and_opens_a_mail(sandbox: Sandbox) -> None:
    sender = sender_for(sandbox.smtp_port)
    await sender.send(mail(text="Open https://matchday.example/verify <now>"))
    await sender.send(mail(to="other@example.com", subject="<script>alert(1)</script>"))
    async with sandbox.browser.get(sandbox.url + "/inbox") as answer:
        page = await answer.text()
    assert page.index("<span>other@example.com") < page.index("<span>player@example.com")
    assert "<script>alert" not in page
    async with sandbox.browser.get(sandbox.url + "/inbox?to=player@example.com") as answer:
        page = await answer.text()
    assert "other@example.com" not in page
    [kept] = await sandbox.items("/_sandbox/inbox?to=player@example.com")
    async with sandbox.browser.get(f"{sandbox.url}/inbox/{kept['id']}") as answer:
        page = await answer.text()
    assert 'href="https://matchday.example/verify"' in page
    assert "&lt;now&gt;" in page
    async with sandbox.browser.get(sandbox.url + "/inbox/999999") as answer:
        assert answer.status == 404


@pytest.mark.parametrize(
    "to", ["a@example.com, b@example.com", "a@example.com\r\nBcc: b@example.com", "not an address", "a@", ""]
)
async def test_an_address_that_would_reach_somebody_else_is_refused(sandbox: Sandbox, to: str) -> None:
    with pytest.raises(ProviderRefused):
        await sender_for(sandbox.smtp_port).send(mail(to=to))
    assert await sandbox.items("/_sandbox/inbox") == []


async def test_a_subject_cannot_add_a_header(sandbox: Sandbox) -> None:
    with pytest.raises(ProviderRefused):
        await sender_for(sandbox.smtp_port).send(mail(subject="Hello\r\nBcc: other@example.com"))


async def test_nobody_listening_means_nothing_was_sent(unused_tcp_port: int) -> None:
    with pytest.raises(ProviderUnavailable):
        await sender_for(unused_tcp_port).send(mail())


async def test_without_the_tls_that_was_asked_for_nothing_is_sent(sandbox: Sandbox) -> None:
    with pytest.raises(ProviderUnavailable):
        await sender_for(sandbox.smtp_port, starttls=True).send(mail())
    assert await sandbox.items("/_sandbox/inbox") == []


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([("RCPT", "550 5.1.1 no such user")], ProviderRefused),
        ([("RCPT", "451 4.7.1 greylisted")], ProviderUnavailable),
        ([("MAIL", "421 4.3.2 going down")], ProviderUnavailable),
        ([("DATA", "354 go"), (".", "554 5.7.1 spam")], ProviderRefused),
        ([("DATA", "354 go"), (".", "452 4.2.2 full")], ProviderUnavailable),
        ([("DATA", "354 go"), (".", "cut")], ProviderOutcomeUnknown),
        ([("DATA", "354 go"), (".", None)], ProviderOutcomeUnknown),
    ],
)
async def test_what_the_relay_says_decides_whether_a_repeat_is_safe(
    relay: Callable[[Script], Awaitable[int]], script: Script, expected: type[Exception]
) -> None:
    with pytest.raises(expected):
        await sender_for(await relay(script), timeout_s=0.5).send(mail())


async def test_a_relay_that_hangs_up_instead_of_good_bye_still_has_the_mail(
    relay: Callable[[Script], Awaitable[int]],
) -> None:
    await sender_for(await relay([("DATA", "354 go"), ("QUIT", "cut")])).send(mail())


def test_credentials_without_tls_cannot_be_configured() -> None:
    with pytest.raises(ValueError, match="STARTTLS"):
        SmtpConfig(
            host="mail.example",
            port=587,
            sender_name="Matchday",
            sender_address="no-reply@matchday.example",
            starttls=False,
            username="u",
            password="p",
        )
