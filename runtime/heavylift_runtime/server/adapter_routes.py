"""The HTTP API of adapters: SageMaker's (`POST /adapters` with JSON) and LMI's (/models/{model}/adapters?name=&src=).

Not the adapters (adapters.py). 409: registered already; 404: no such adapter, model or folder; 424: the engine cannot
load it; 507: no memory. A model without adapters says so, and never serves the base model in one's place.
Sources: aws/model-hosting-container-standards (its LoRA routes); djl-serving's "Adapters Management API".
"""

from __future__ import annotations

import json
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from heavylift_runtime.server.adapters import HEADERS, Adapters
from heavylift_runtime.server.body import Bodies
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.visit import Visit

_LARGEST = 64 * 1024  # bytes of a request to register one
_LONGEST = 1024  # characters

Of = Callable[[Scope], "Adapters | str"]
"""The adapters of the model that is asked, or why it has none; raises Refused where there is no such model."""


def refuse_adapter(visit: Visit, why_not: str) -> None:
    """Refused (404) where the platform asks for an adapter: an answer of the base model would be another's."""
    for name in HEADERS:
        if name in visit.headers:
            raise Refused(404, f"no adapter {visit.headers[name][:80]!r}: {why_not}")


def adapter_routes(of: Of) -> list[Route]:
    """Of one model at /adapters, of several at /models/{model}/adapters."""
    bodies = Bodies(_LARGEST)

    async def many(request: Request) -> Response:
        adapters = of(request.scope)
        if request.method == "GET":
            return JSONResponse({"adapters": [] if isinstance(adapters, str) else adapters.listed()})
        if isinstance(adapters, str):
            raise Refused(400, f"{adapters}: merge the adapter into the weights")
        given = _given(request, await bodies.read(request.headers, request.receive))
        name, source = _text(given, "name"), _text(given, "src")
        await adapters.add(name, source)
        return JSONResponse({"status": f"Adapter {name} registered"})

    async def one(request: Request) -> Response:
        name, adapters = str(request.path_params["adapter"]), of(request.scope)
        if isinstance(adapters, str):
            raise Refused(404, f"no adapter {name[:80]!r}: {adapters}")
        if request.method == "GET":
            return JSONResponse(adapters.described(name))
        if request.method == "DELETE":
            await adapters.remove(name)
            return JSONResponse({"status": f"Adapter {name} unregistered"})
        given = _given(request, await bodies.read(request.headers, request.receive))
        await adapters.replace(name, _text(given, "src") if "src" in given else None)
        return JSONResponse({"status": f"Adapter {name} updated"})

    return [
        route
        for prefix in ("", "/models/{model}")
        for route in (
            Route(f"{prefix}/adapters", many, methods=["GET", "POST"]),
            Route(f"{prefix}/adapters/{{adapter}}", one, methods=["GET", "PUT", "DELETE"]),
            Route(f"{prefix}/adapters/{{adapter}}/update", one, methods=["POST"]),
        )
    ]


def _given(request: Request, body: bytes) -> dict[str, object]:
    """The query's members, and those of a JSON body."""
    try:
        document = json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the body is not JSON") from error
    if not isinstance(document, dict):
        raise Refused(400, "the body must be an object with 'name' and 'src'")
    return {**request.query_params, **document}


def _text(given: dict[str, object], member: str) -> str:
    value = given.get(member)
    if not (isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable()):
        raise Refused(400, f"{member!r} must be a text of 1 to {_LONGEST} printable characters")
    return value
