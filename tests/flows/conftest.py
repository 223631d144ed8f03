"""One stack for each module of flows, a player on it, and a deposit that was paid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from matchday.browser import Form
from storage.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.client import Client
from tests.stack import Stack, running


@pytest.fixture(scope="module")
def stack(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    with running(postgres, valkey, tmp_path_factory.mktemp("flow")) as stack:
        yield stack


@pytest.fixture(scope="module")
def player(stack: Stack) -> Iterator[Client]:
    with stack.client() as client:
        client.sign_up_and_in()
        yield client


@pytest.fixture(scope="module")
def paid(player: Client) -> tuple[dict[str, Any], Form]:
    """A deposit of the player's that was paid, and the form that the browser came back with."""
    return player.paid_deposit("500.00")
