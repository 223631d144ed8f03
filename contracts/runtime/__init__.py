"""A contract runtime for aiohttp: OpenAPI 3.0 documents in, a served and enforced API out.

`load_contracts` reads and checks the documents, `create_api` compiles them with their handlers into one aiohttp
application. README.md tells what is checked and what replaces connexion's request pipeline.
"""

from contracts.runtime.api import create_api
from contracts.runtime.call import Call, Handler, Reply, SecurityHandler, Upload
from contracts.runtime.headers import current_request_id, current_trace_id
from contracts.runtime.lint import lint
from contracts.runtime.loading import Contract, ContractError, load_contracts
from contracts.runtime.options import RuntimeOptions
from contracts.runtime.problem import Fault, Problem
from contracts.runtime.responses import preferred
from contracts.runtime.server import ApiRunner

__all__ = [
    "ApiRunner",
    "Call",
    "Contract",
    "ContractError",
    "Fault",
    "Handler",
    "Problem",
    "Reply",
    "RuntimeOptions",
    "SecurityHandler",
    "Upload",
    "create_api",
    "current_request_id",
    "current_trace_id",
    "lint",
    "load_contracts",
    "preferred",
]
