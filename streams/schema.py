"""contracts/events.yaml as a judge of messages: of clients' frames always, of everything we send in tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jsonschema_rs

from contracts.events import Event
from contracts.runtime.loading import read_yaml
from contracts.runtime.problem import Fault
from contracts.runtime.schema import faults_of

_URI = "urn:matchday:events"
CLIENT_OPS = frozenset({"connect", "subscribe", "unsubscribe", "refresh", "ping"})
# On SSE a message has no `op` but the event name; these have a body of their own there.
_SSE_MESSAGES = {
    name: f"stream_{name}" for name in ("cursor", "going_away", "unsubscribed", "presence", "token_expiring")
}


class ContractBroken(AssertionError):
    """A message that events.yaml does not describe."""


class MessageContract:
    """The messages of an AsyncAPI 3 document, compiled once."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        # Multi-format schemas are not used: a payload is an AsyncAPI schema object, a superset of draft 7.
        registry = jsonschema_rs.Registry([(_URI, dict(document))])
        self._validators = {
            name: jsonschema_rs.Draft7Validator(
                {"$ref": f"{_URI}#/components/messages/{name}/payload"},
                registry=registry, validate_formats=True, offline=True,
            )
            for name in document["components"]["messages"]
        }  # fmt: skip

    @classmethod
    def load(cls) -> MessageContract:
        """Read contracts/events.yaml."""
        return cls(read_yaml(resources.files("contracts").joinpath("events.yaml").read_bytes()))

    def faults(self, name: str, message: Any) -> list[Fault]:
        """Every rule of the message `name` that a value breaks. Raises ContractBroken for an unknown name."""
        validator = self._validators.get(name)
        if validator is None:
            raise ContractBroken(f"events.yaml has no message {name}")
        return faults_of(validator, message)

    def check_sent(self, transport: str, name: str, payload: bytes) -> None:
        """An observer of connections: raises ContractBroken unless the message is as events.yaml says."""
        message = json.loads(payload)
        if transport == "websocket" and name == "event":
            # by its own type: the fault found is then that of the event, not of every alternative
            self._check(message["event"]["type"], message["event"])
        else:
            self._check(_SSE_MESSAGES.get(name, name) if transport == "sse" else name, message)

    def check_event(self, event: Event) -> None:
        """An observer of the outbox: raises ContractBroken unless events.yaml describes the event and its data."""
        self._check(
            event.type,
            {
                "specversion": "1.0", "id": event.id, "source": "/matchday", "type": event.type,
                "subject": event.subject, "time": event.time.isoformat(), "datacontenttype": "application/json",
                "sequence": "0" * 20, "cursor": "A", "data": event.data,
            },
        )  # fmt: skip

    def _check(self, name: str, message: Any) -> None:
        faults = self.faults(name, message)
        if faults:
            raise ContractBroken(f"{name}: {faults}")
