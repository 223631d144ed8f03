"""The page of a document: plain HTML, made once, readable without scripts and without anything from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from contracts.asyncapi.document import EventsDocument, Message
from contracts.asyncapi.tables import Part, Table, table_of

# HTML in a description is shown as it is written, not taken over.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


@dataclass(frozen=True, slots=True)
class Group:
    """Messages that are told together."""

    id: str
    title: str
    messages: list[Message]


def render_page(document: EventsDocument, *, downloads: Sequence[tuple[str, str]]) -> str:
    """The page as HTML. `downloads` are (text, URL) pairs, relative to the page."""
    environment = Environment(
        loader=PackageLoader("contracts.asyncapi"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "markdown": lambda text: Markup(_MARKDOWN.render(text)),  # noqa: S704 - markdown-it escapes HTML
        "inline": lambda text: Markup(_MARKDOWN.renderInline(text)),  # noqa: S704
        "json": lambda value: json.dumps(value, ensure_ascii=False, indent=2),
    }
    view = _View(document)
    return environment.get_template("page.html").render(view=view, document=document.content, downloads=downloads)


class _View:
    """What the template asks of a document."""

    def __init__(self, document: EventsDocument) -> None:
        self._document = document
        channels = document.channels.items()
        self.transports = {key: channel for key, channel in channels if "servers" in channel}
        self.topics = {key: channel for key, channel in channels if "servers" not in channel}
        self.groups = list(self._groups())

    def _groups(self) -> list[Group]:
        """Every message once: the events, then what each transport has of its own."""
        document = self._document
        found = [Group("events", "Events", document.events)]
        for key, channel in self.transports.items():
            title = channel.get("title", key)
            found.append(Group(f"{key}-client", f"{title}: what a client sends", document.received(channel)))
            found.append(Group(f"{key}-server", f"{title}: what the server sends", document.sent(channel)))
        told: set[str] = set()
        groups = []
        for group in found:
            messages = [message for message in group.messages if message.key not in told]
            told |= {message.key for message in messages}
            groups += [Group(group.id, group.title, messages)] if messages else []
        return groups

    @property
    def schemas(self) -> Mapping[str, Any]:
        """The named schemas."""
        schemas: Mapping[str, Any] = self._document.content["components"]["schemas"]
        return schemas

    @property
    def operations(self) -> Mapping[str, Any]:
        """The operations by name."""
        operations: Mapping[str, Any] = self._document.content["operations"]
        return operations

    def table(self, schema: Mapping[str, Any]) -> Table:
        return table_of(self._document, schema)

    def key(self, reference: Mapping[str, Any]) -> str:
        """The name of what a reference leads to."""
        return (self._document.pointer(reference) or "").rpartition("/")[2]

    def parts(self, references: Sequence[Mapping[str, Any]]) -> list[Part]:
        """Links to the messages that a list of references names."""
        return [Part(message.key, f"message-{message.key}") for message in self._document.listed(references)]

    def resolve(self, node: Any) -> Any:
        return self._document.resolve(node)

    def addresses(self, message: Message) -> list[str]:
        """The keys of the channels that a message travels on."""
        return [
            key for key, channel in self._document.channels.items()
            if message in self._document.listed(channel.get("messages", {}).values())
        ]  # fmt: skip

    def queries(self, holder: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The query parameters of a channel's or an operation's bindings, as schemas of objects."""
        return [binding["query"] for binding in holder.get("bindings", {}).values() if "query" in binding]
