"""What identity decides."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from handlers.identity import addresses, messages, rules
from handlers.identity.rules import SignUp

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
PEPPER = b"c" * 32
SIGN_UP_ID = "sup_01kar6k5d0g2p4r6t8v0x2z4aj"
OPEN = SignUp(
    id=SIGN_UP_ID, email="player@example.com", email_key="player@example.com", display_name="Smash",
    password_hash="$argon2id$", address_taken=False, code_digest=rules.code_digest(PEPPER, SIGN_UP_ID, "042917"),
    wrong_codes=0, codes_sent=1, code_sent_at=NOW, expires_at=NOW + timedelta(minutes=10), completed_at=None, now=NOW,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"completed_at": NOW}, rules.SignUpCompleted),
        ({"wrong_codes": 5}, rules.SignUpBurned),
        ({"now": OPEN.expires_at}, rules.SignUpExpired),
        ({"wrong_codes": 5, "now": OPEN.expires_at}, rules.SignUpBurned),
        ({"completed_at": NOW, "wrong_codes": 5, "now": OPEN.expires_at}, rules.SignUpCompleted),
    ],
)
def test_a_sign_up_that_is_over_says_why(change: dict[str, object], refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        rules.ensure_open(replace(OPEN, **change))  # type: ignore[arg-type]
    with pytest.raises(refusal):
        rules.ensure_resendable(replace(OPEN, **change))  # type: ignore[arg-type]


def test_a_sign_up_is_open_until_the_fifth_wrong_code_and_the_last_microsecond() -> None:
    rules.ensure_open(replace(OPEN, wrong_codes=4, now=OPEN.expires_at - timedelta(microseconds=1)))


def test_only_the_code_of_this_sign_up_under_this_pepper_is_right() -> None:
    def right(sign_up_id: str, code: str, pepper: bytes = PEPPER) -> bool:
        return rules.is_right_code(OPEN, rules.code_digest(pepper, sign_up_id, code))

    assert right(SIGN_UP_ID, "042917")
    assert not right(SIGN_UP_ID, "042918")
    assert not right("sup_01kar6k5d0g2p4r6t8v0x2z4ak", "042917")
    assert not right(SIGN_UP_ID, "042917", b"d" * 32)


def test_no_code_is_right_for_a_taken_address() -> None:
    assert rules.is_right_code(replace(OPEN, address_taken=True), OPEN.code_digest) is False


@pytest.mark.parametrize(("codes_sent", "cool_down_s"), [(1, 30), (2, 60), (3, 120), (4, 120), (5, 120)])
def test_cool_down_grows_and_is_told_in_whole_seconds_that_suffice(codes_sent: int, cool_down_s: int) -> None:
    sent = replace(OPEN, codes_sent=codes_sent)
    rules.ensure_resendable(replace(sent, now=NOW + timedelta(seconds=cool_down_s)))
    with pytest.raises(rules.ResendTooSoon) as refusal:
        rules.ensure_resendable(replace(sent, now=NOW + timedelta(seconds=cool_down_s - 0.1)))
    assert refusal.value.headers["Retry-After"] == "1"


def test_after_five_resends_there_are_no_more_however_long_one_waits() -> None:
    with pytest.raises(rules.ResendsUsedUp):
        rules.ensure_resendable(replace(OPEN, codes_sent=6))


def test_password_length_counts_code_points_of_the_normal_form() -> None:
    rules.ensure_long_enough("\uff41" * 15)
    rules.ensure_long_enough("🏸" * 15)
    rules.ensure_long_enough("x" * 256)
    for password in ("x" * 14, "e\u0301" * 14, "x" * 257):
        with pytest.raises(rules.PasswordWeak):
            rules.ensure_long_enough(password)


@pytest.mark.parametrize("name", ["Smash", "Zoë", "क़", "क्‍ष", "🏸", "李", "O'Neil-7"])
def test_names_of_any_script_are_shown(name: str) -> None:
    assert rules.showable_name(f"\u00a0{name} ") == name


@pytest.mark.parametrize("name", ["", " ", "\u3000", "\u200b\u200d", "a\u0085b", "a\u2028b", "a\u202eb", "a\u2066b"])
def test_names_that_show_nothing_or_turn_the_text_around_are_refused(name: str) -> None:
    with pytest.raises(rules.NameUnfit):
        rules.showable_name(name)


def test_mail_is_retried_ever_later_up_to_a_quarter_of_an_hour() -> None:
    assert [rules.email_backoff_s(attempts) for attempts in (1, 2, 3, 8, 9, 30_000)] == [5, 10, 20, 640, 900, 900]
    assert rules.email_backoff_s(1, wished_s=90) == 90
    assert rules.email_backoff_s(9, wished_s=90) == 900


@pytest.mark.parametrize(
    ("text", "email", "key"),
    [
        ("player@example.com", "player@example.com", "player@example.com"),
        ("Player+Club@Example.COM", "Player+Club@example.com", "player+club@example.com"),
        ("player@bücher.example", "player@xn--bcher-kva.example", "player@xn--bcher-kva.example"),
    ],
)
def test_address_and_its_key(text: str, email: str, key: str) -> None:
    assert addresses.parse(text) == addresses.Address(email, key)
    assert addresses.key(text) == key


@pytest.mark.parametrize("text", ["", "player", "player@localhost", "p@@example.com", "плейер@example.com", "a b@c.de"])
def test_text_that_no_mail_reaches_has_no_key(text: str) -> None:
    assert addresses.key(text) == ""
    with pytest.raises(rules.EmailInvalid) as refusal:
        addresses.parse(text)
    assert refusal.value.errors is not None
    assert refusal.value.errors[0].pointer == "#/body/email"


def test_mails_keep_the_code_out_of_the_subject_and_name_the_service() -> None:
    code = messages.verification_code("042917")
    assert "042917" in code.text
    assert "042917" not in code.subject
    assert "10 minutes" in code.text
    for message in (code, messages.address_taken()):
        assert "\n" not in message.subject
        assert "Matchday" in message.subject
        assert message.text.endswith(".\n")
