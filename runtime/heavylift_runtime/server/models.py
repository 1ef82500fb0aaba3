"""The API of models: load, list, describe, unload and invoke them, and LMI's /predictions. Not the loading: hall.py.

SageMaker's contract for containers (developer guide, "Build your own container for multi-model endpoints"): 409 for a
model that is loaded already, 404 for one that is not, 507 where memory does not suffice, so that SageMaker unloads
others and tries again.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heavylift_runtime.server.app import Ask
from heavylift_runtime.server.body import Bodies
from heavylift_runtime.server.refused import Refused

_PAGE = 100  # models
_ONE = "this server serves one model: start it with SAGEMAKER_MULTI_MODEL=true, and models come and go"
_LARGEST = 64 * 1024  # bytes of a request to load


class Listed(Protocol):
    """A model, as it is listed."""

    @property
    def name(self) -> str: ...

    @property
    def url(self) -> str: ...


class Models(Protocol):
    """The models that are loaded."""

    def listed(self) -> list[Any]:
        """All of them, by name."""

    def find(self, name: str) -> Any:
        """One of them; raises Refused (404)."""

    async def load(self, name: str, url: str) -> None:
        """Load one, and return once it is ready; raises Refused (400, 404, 409, 424, 507)."""

    async def unload(self, name: str) -> None:
        """Unload one; raises Refused (404)."""


class Alone:
    """The model of a server that has one: it answers under its name, and none comes or goes."""

    def __init__(self, model: Any) -> None:
        """`model` has `names` and what Listed has."""
        self._model = model

    def listed(self) -> list[Any]:
        return [self._model]

    def find(self, name: str) -> Any:
        """Also as `model`, which is LMI's name for one that has none; raises Refused (404)."""
        if name not in ("model", *self._model.names):
            raise Refused(404, f"no model {name[:80]!r}: this server serves {self._model.name!r}")
        return self._model

    async def load(self, name: str, url: str) -> None:
        raise Refused(409 if name == self._model.name else 400, _ONE)

    async def unload(self, name: str) -> None:
        self.find(name)
        raise Refused(400, _ONE)


def model_routes(models: Models, ask: Ask) -> list[Route]:
    """/models and what is under it."""
    bodies = Bodies(_LARGEST)

    async def many(request: Request) -> Response:
        if request.method == "POST":
            name, url = _wanted(await bodies.read(request.headers, request.receive))
            await models.load(name, url)
            return JSONResponse({"status": f"model {name!r} is loaded", "modelName": name, "modelUrl": url})
        token = request.query_params.get("next_page_token", "0")
        if not (token.isascii() and token.isdigit() and len(token) < 10):
            raise Refused(400, f"next_page_token must be one that this server gave: got {token[:80]!r}")
        listed, first = models.listed(), int(token)
        page: dict[str, Any] = {"models": [_described(each) for each in listed[first : first + _PAGE]]}
        if first + _PAGE < len(listed):
            page["nextPageToken"] = str(first + _PAGE)
        return JSONResponse(page)

    async def one(request: Request) -> Response:
        name = str(request.path_params["model"])
        if request.method == "DELETE":
            await models.unload(name)
            return JSONResponse({"status": f"model {name!r} is unloaded"})
        return JSONResponse(_described(models.find(name)))

    return [
        Route("/models", many, methods=["GET", "POST"]),
        Route("/models/{model}", one, methods=["GET", "DELETE"]),
        Route("/models/{model}/invoke", ask, methods=["POST"]),
        Route("/predictions/{model}", ask, methods=["POST"]),
        Route("/predictions/{model}/{version}", ask, methods=["POST"]),
    ]


def _described(model: Listed) -> dict[str, str]:
    return {"modelName": model.name, "modelUrl": model.url}


def _wanted(body: bytes) -> tuple[str, str]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the body is not JSON") from error
    faults = []
    for member in ("model_name", "url"):
        value = document.get(member) if isinstance(document, dict) else None
        if not (isinstance(value, str) and 0 < len(value) <= 1024 and value.isprintable()):
            faults.append(f"{member!r} must be a text of 1 to 1024 printable characters")
        elif member == "model_name" and "/" in value:
            faults.append(f"'model_name' must have no '/', for it is one part of a path: got {value[:80]!r}")
    if faults:
        raise Refused(400, "; ".join(faults))
    return document["model_name"], document["url"]
