"""The events' contract for its readers: a page, and the types of every message in TypeScript and Python.

Everything is made from whatever events.yaml (AsyncAPI 3) says; no event, message or channel is known here by name.
"""

from contracts.asyncapi.document import DocumentError, EventsDocument
from contracts.asyncapi.emit import LANGUAGES, types_in
from contracts.asyncapi.serving import routes

__all__ = ["LANGUAGES", "DocumentError", "EventsDocument", "routes", "types_in"]
