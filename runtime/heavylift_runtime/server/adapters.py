"""The adapter API of LMI and SageMaker, of a model whose engine has no adapters: it says so, and never serves the base.

/adapters and /models/{model}/adapters: GET lists, POST registers, DELETE …/{name} removes. An engine with adapters
(`adapters=True` in the registry) is not among those that this version can run.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.visit import Visit

_HEADERS = ("x-amzn-sagemaker-adapter-identifier", "x-amzn-sagemaker-adapter-alias")


def refuse_adapter(visit: Visit, engine: str) -> None:
    """Refused (404) where the platform asks for an adapter: an answer of the base model would be another's."""
    for name in _HEADERS:
        if name in visit.headers:
            raise Refused(404, f"no adapter {visit.headers[name][:80]!r}: engine {engine} has none")


def adapter_routes(engine_of: Callable[[Scope], str]) -> list[Route]:
    """`engine_of` names the engine of the model that is asked; raises Refused where there is no such model."""

    async def many(request: Request) -> Response:
        engine = engine_of(request.scope)
        if request.method == "POST":
            raise Refused(400, f"engine {engine} has no adapters: merge the adapter into the weights")
        return JSONResponse({"adapters": []})

    async def one(request: Request) -> Response:
        name = str(request.path_params["adapter"])
        raise Refused(404, f"no adapter {name[:80]!r}: engine {engine_of(request.scope)} has none")

    return [
        route
        for prefix in ("", "/models/{model}")
        for route in (
            Route(f"{prefix}/adapters", many, methods=["GET", "POST"]),
            Route(f"{prefix}/adapters/{{adapter}}", one, methods=["GET", "PUT", "DELETE"]),
        )
    ]
