"""What contracts/identity.yaml calls: read, ask the service, render."""

from __future__ import annotations

from typing import Any

from contracts.runtime.call import Call, Reply
from handlers.identity import rules
from handlers.identity.rules import SignUp
from handlers.identity.service import Identity
from handlers.identity.store import User


class Operations:
    """One method per operationId."""

    def __init__(self, service: Identity) -> None:
        self._service = service

    async def sign_up(self, call: Call) -> Reply:
        return Reply(202, _sign_up(await self._service.sign_up(**call.body)))

    async def verify_email(self, call: Call) -> Reply:
        user = await self._service.verify_email(call.path["sign_up_id"], code=call.body["code"])
        return Reply(201, {"user": _user(user)}, {"Location": "/v1/identity/me"})

    async def resend_code(self, call: Call) -> Reply:
        return Reply(202, _sign_up(await self._service.resend_code(call.path["sign_up_id"])))

    async def create_session(self, call: Call) -> Reply:
        signed_in = await self._service.create_session(**call.body)
        body = {
            "access_token": signed_in.access_token,
            "token_type": "Bearer",
            "expires_at": signed_in.session.expires_at.isoformat(),
            "session_id": signed_in.session.id,
            "scopes": list(signed_in.session.scopes),
        }
        return Reply(201, body, {"Location": "/v1/identity/sessions/current"})

    async def end_session(self, call: Call) -> Reply:
        await self._service.end_session(call.principal)
        return Reply(204)

    async def get_me(self, call: Call) -> Reply:
        return Reply(200, _user(await self._service.get_user(call.principal)))


def _sign_up(sign_up: SignUp) -> dict[str, Any]:
    return {
        "sign_up_id": sign_up.id,
        "expires_at": sign_up.expires_at.isoformat(),
        "code_length": rules.CODE_LENGTH,
    }


def _user(user: User) -> dict[str, Any]:
    return {
        "user_id": user.id,
        "email": user.email,
        "email_verified_at": user.email_verified_at.isoformat(),
        "display_name": user.display_name,
        "created_at": user.created_at.isoformat(),
    }
