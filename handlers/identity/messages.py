"""The mails of identity, from templates whose first line is the subject.

Nothing in them comes from whoever signs up: with a name in it anybody could send words of their choice to any
address.
"""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from handlers.identity import rules

SERVICE = "Matchday"

_templates = Environment(
    loader=PackageLoader(__package__),
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701 plain text
    keep_trailing_newline=True,
)


@dataclass(frozen=True, slots=True)
class Message:
    """A mail without its address. `useful_s` is how long it is worth sending."""

    subject: str
    text: str
    useful_s: int


def verification_code(code: str) -> Message:
    return _render("verification_code.txt", code=code, minutes=rules.CODE_TTL_S // 60)


def address_taken() -> Message:
    return _render("address_taken.txt")


def _render(template: str, **values: object) -> Message:
    rendered = _templates.get_template(template).render(service=SERVICE, **values)
    subject, _, text = rendered.partition("\n\n")
    return Message(subject, text, rules.CODE_TTL_S)
