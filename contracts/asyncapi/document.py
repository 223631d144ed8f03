"""An AsyncAPI 3 document: its references followed, its messages sorted by who sends them where.

Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from contracts.runtime.loading import ContractError, read_yaml

MESSAGES = "#/components/messages/"
SCHEMAS = "#/components/schemas/"
_WEBSOCKET = frozenset({"ws", "wss"})


class DocumentError(ContractError):
    """The document says something that cannot be followed; the text says where."""

    def __init__(self, fault: str) -> None:
        super().__init__([fault])


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One message. `name` is what a receiver tells it by, `key` its place under components/messages."""

    key: str
    name: str
    title: str
    description: str
    payload: Mapping[str, Any]
    examples: tuple[Mapping[str, Any], ...]

    @property
    def pointer(self) -> str:
        """Where it stands in the document."""
        return f"{MESSAGES}{self.key}"


class EventsDocument:
    """A document as text and as data. The data is never changed."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.content: dict[str, Any] = read_yaml(source)

    @classmethod
    def load(cls, path: Path) -> EventsDocument:
        """Read a file. Raises OSError, yaml.YAMLError."""
        return cls(path.read_bytes())

    def at(self, reference: str) -> Any:
        """What a reference within the document leads to (RFC 6901 section 6). Raises DocumentError."""
        node: Any = self.content
        fragment, hash_, steps = reference.partition("#/")
        try:
            if fragment or not hash_:
                raise KeyError(reference)
            for step in steps.split("/"):
                step = unquote(step).replace("~1", "/").replace("~0", "~")
                node = self.resolve(node)
                node = node[int(step)] if isinstance(node, list) else node[step]
        except (KeyError, IndexError, ValueError, TypeError):
            raise DocumentError(f"$ref {reference} does not resolve") from None
        return node

    def pointer(self, node: Mapping[str, Any]) -> str | None:
        """Where the references of a node lead in the end; None for a node without one."""
        found = None
        while "$ref" in node:
            found = node["$ref"]
            node = self.at(found)
        return found

    def resolve(self, node: Any) -> Any:
        """The node itself, or what its references lead to in the end."""
        found = self.pointer(node) if isinstance(node, dict) else None
        return node if found is None else self.at(found)

    @cached_property
    def messages(self) -> dict[str, Message]:
        """Every message by its key, in the order of the document."""
        return {key: self._message(key) for key in self.content["components"]["messages"]}

    def _message(self, key: str) -> Message:
        node = self.content["components"]["messages"][key]
        title = node.get("title", key)
        examples = tuple(node.get("examples", ()))
        return Message(key, node.get("name", key), title, node.get("description", ""), node["payload"], examples)

    def listed(self, nodes: Iterable[Mapping[str, Any]]) -> list[Message]:
        """The messages that a list of references names."""
        return [self.messages[(self.pointer(node) or "").removeprefix(MESSAGES)] for node in nodes]

    @cached_property
    def events(self) -> list[Message]:
        """The messages that tell what happened: their payload has a `type`, which is their name."""
        return [message for message in self.messages.values() if self._type_of(message.payload) == [message.name]]

    def _type_of(self, payload: Mapping[str, Any]) -> list[Any] | None:
        """The values that the property `type` of a payload is narrowed to."""
        for part in (payload, *payload.get("allOf", ())):
            values: list[Any] | None = self.resolve(part).get("properties", {}).get("type", {}).get("enum")
            if values is not None:
                return values
        return None

    @property
    def channels(self) -> dict[str, dict[str, Any]]:
        """Every channel by its key."""
        channels: dict[str, dict[str, Any]] = self.content["channels"]
        return channels

    def protocols(self, channel: Mapping[str, Any]) -> set[str]:
        """The protocols of a channel's servers. A channel without servers is a topic, delivered over the others."""
        return {self.resolve(server)["protocol"] for server in channel.get("servers", ())}

    def websocket(self, channel: Mapping[str, Any]) -> bool:
        """Whether a channel is a WebSocket."""
        return not _WEBSOCKET.isdisjoint(self.protocols(channel))

    def event_stream(self, channel: Mapping[str, Any]) -> bool:
        """Whether a channel is an event stream over HTTP."""
        return not {"http", "https"}.isdisjoint(self.protocols(channel))

    def received(self, channel: Mapping[str, Any]) -> list[Message]:
        """What clients send on a channel."""
        return _once(message for operation in self._on(channel, "receive") for message in self._of(operation))

    def sent(self, channel: Mapping[str, Any]) -> list[Message]:
        """What the server sends on a channel, answers included."""
        replies = (self._of(operation["reply"]) for operation in self._on(channel, "receive") if "reply" in operation)
        sends = (self._of(operation) for operation in self._on(channel, "send"))
        return _once(message for group in (*replies, *sends) for message in group)

    def _on(self, channel: Mapping[str, Any], action: str) -> Iterator[Mapping[str, Any]]:
        for operation in self.content["operations"].values():
            if operation["action"] == action and self.resolve(operation["channel"]) is channel:
                yield operation

    def _of(self, operation: Mapping[str, Any]) -> list[Message]:
        """The messages of an operation or a reply; all of its channel when it names none."""
        nodes = operation.get("messages")
        return self.listed(self.resolve(operation["channel"])["messages"].values() if nodes is None else nodes)


def _once(messages: Iterable[Message]) -> list[Message]:
    return list({message.key: message for message in messages}.values())
