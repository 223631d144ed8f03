"""The types of a document as source text of a language. The same document always gives the same text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from contracts.asyncapi import python, typescript
from contracts.asyncapi.document import EventsDocument
from contracts.asyncapi.model import Model
from contracts.asyncapi.modelling import model_of

LANGUAGES: Mapping[str, Callable[[Model], str]] = {"typescript": typescript.emit, "python": python.emit}


def types_in(language: str, document: EventsDocument) -> str:
    """Source text of a module with every type. Raises KeyError for an unknown language, DocumentError."""
    return LANGUAGES[language](model_of(document))
