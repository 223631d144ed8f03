"""The sample contract with handlers that keep their promises, in memory."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from contracts.runtime import Call, Problem, Reply, RuntimeOptions, create_api, load_contracts
from tests.contract.runtime.harness import SAMPLES

TOKEN = "sample-token"
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class UnknownItem(Problem):
    status, code, title = 404, "orders.unknown_item", "No such item"


class Items:
    """Handlers of the sample contract."""

    def __init__(self) -> None:
        self._items: dict[str, dict[str, Any]] = {}

    async def list_items(self, call: Call) -> Reply:
        return Reply(200, {"items": list(self._items.values())[: call.query["limit"]]})

    async def create_item(self, call: Call) -> Reply:
        number = uuid.uuid4().int
        suffix = "".join(_ALPHABET[number >> shift & 31] for shift in range(120, -1, -5))
        identifier = f"itm_0{suffix}"
        self._items[identifier] = {"id": identifier, **call.body}
        return Reply(201, self._items[identifier], {"Location": f"/v1/orders/items/{identifier}"})

    async def get_item(self, call: Call) -> Reply:
        return Reply(200, self._find(call))

    async def delete_item(self, call: Call) -> Reply:
        del self._items[self._find(call)["id"]]
        return Reply(204)

    async def put_photo(self, call: Call) -> Reply:
        self._find(call)
        return Reply(200, {"bytes": len(call.body["photo"].content)})

    async def ping(self, call: Call) -> Reply:
        return Reply(200, {"pong": True})

    def _find(self, call: Call) -> dict[str, Any]:
        item = self._items.get(call.path["item_id"])
        if item is None:
            raise UnknownItem
        return item


async def authenticate(request: web.Request, credential: str, scopes: Sequence[str]) -> str:
    if credential != TOKEN:
        raise Problem(status=401, code="auth.invalid", title="The credentials are not valid")
    return "somebody"


def make_app(options: RuntimeOptions | None = None) -> web.Application:
    """The sample service."""
    items = Items()
    return create_api(
        load_contracts(SAMPLES, ["orders"]),
        operations={
            "listItems": items.list_items,
            "createItem": items.create_item,
            "getItem": items.get_item,
            "deleteItem": items.delete_item,
            "putPhoto": items.put_photo,
            "ping": items.ping,
        },
        security={"bearerAuth": authenticate},
        options=options,
    )
