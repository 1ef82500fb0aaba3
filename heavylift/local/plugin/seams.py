"""Every private name of MiniStack that the plug-in touches, checked when it starts.

Not a copy of MiniStack: another version may move these names, so it is pinned, and a missing one ends the daemon.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

VERSION = "1.5.33"
_NAMES = {
    "ministack.app": ("app",),
    "ministack.core.lambda_runtime": ("reset",),
    "ministack.services.cloudwatch": ("record_metric",),
    "ministack.services.eventbridge": ("_put_events", "_dispatch_to_lambda"),
    "ministack.services.lambda_svc": (
        "_execute_function_with_config_scope",
        "_execution_record_for_config",
        "_get_func_record_for_ref",
        "invoke_async_with_retry",
    ),
    "ministack.services.s3": (
        "_put_bucket_encryption",
        "_delete_bucket_encryption",
        "_put_bucket_lifecycle",
        "_delete_bucket_lifecycle",
    ),
    "ministack.services.cloudformation.custom_resource": ("deliver_response", "_pending", "_lock"),
    "ministack.services.cloudformation.handlers": ("_ACTION_HANDLERS",),
    "ministack.services.cloudformation.provisioners": (
        "_RESOURCE_HANDLERS",
        "_REPLACING_PROPERTIES",
        "_STACK_TAG_PROPERTY",
        "_S3_BUCKET_CONFIGURATIONS",
        "_physical_name",
    ),
    "ministack.services.cloudformation.stacks": ("_runs_on_worker_thread",),
}

Create = Callable[[str, dict[str, Any], str], tuple[str, dict[str, Any]]]
Update = Callable[[str, dict[str, Any], dict[str, Any], str, str], tuple[str, dict[str, Any]]]
Delete = Callable[[str, dict[str, Any]], None]


def check() -> None:
    """SystemExit with a sentence when MiniStack is not the version, or lacks a name, that the plug-in was made for."""
    found = importlib.metadata.version("ministack")
    missing = [
        f"{module}.{name}" for module, names in _NAMES.items() for name in names if not hasattr(_module(module), name)
    ]
    if found != VERSION or missing:
        raise SystemExit(
            f"the embedded AWS needs ministack {VERSION}; found {found}"
            + (f", which lacks {', '.join(missing)}" if missing else "")
            + "; delete the folder of its Python and start again"
        )


def application() -> Any:
    """MiniStack's ASGI application."""
    return _module("ministack.app").app


def add_type(
    name: str,
    *,
    create: Create,
    update: Update,
    delete: Delete,
    replacing: tuple[str, ...],
    tagged: bool = False,
    blocks: bool = False,
) -> None:
    """Teach CloudFormation a type.

    A change of a `replacing` property makes a new resource; a `tagged` type gets the stack's tags; one that `blocks`
    runs on a thread of its own.
    """
    provisioners: Any = _module("ministack.services.cloudformation.provisioners")
    provisioners._RESOURCE_HANDLERS[name] = {
        "create": create,
        "update": update,
        "update_with_logical_id": True,
        "delete": delete,
    }
    provisioners._REPLACING_PROPERTIES[name] = replacing
    if tagged:
        provisioners._STACK_TAG_PROPERTY[name] = ("Tags", "list")
    if blocks:
        stacks: Any = _module("ministack.services.cloudformation.stacks")
        known = stacks._runs_on_worker_thread
        stacks._runs_on_worker_thread = lambda kind: kind == name or known(kind)


def add_bucket_property(name: str, to_xml: Callable[[dict[str, Any]], bytes], put: Any, delete: Any) -> None:
    """Teach AWS::S3::Bucket a property that the S3 API already knows."""
    provisioners: Any = _module("ministack.services.cloudformation.provisioners")
    provisioners._S3_BUCKET_CONFIGURATIONS += ((name, to_xml, put, delete),)


def physical_name(stack: str, logical_id: str) -> str:
    """A generated name of at most 63 characters, SageMaker's limit."""
    name: str = _module("ministack.services.cloudformation.provisioners")._physical_name(stack, logical_id, max_len=63)
    return name


def s3() -> ModuleType:
    """MiniStack's S3."""
    return _module("ministack.services.s3")


def lambdas() -> ModuleType:
    """MiniStack's Lambda."""
    return _module("ministack.services.lambda_svc")


def eventbridge() -> ModuleType:
    """MiniStack's EventBridge."""
    return _module("ministack.services.eventbridge")


def custom_resources() -> ModuleType:
    """The custom resources that wait for their answer."""
    return _module("ministack.services.cloudformation.custom_resource")


def stack_actions() -> dict[str, Callable[[Any], Any]]:
    """CloudFormation's operations by name: parameters in, HTTP status, headers and body out."""
    actions: dict[str, Callable[[Any], Any]] = _module("ministack.services.cloudformation.handlers")._ACTION_HANDLERS
    return actions


def put_metric(name: str, value: float, dimensions: dict[str, str], unit: str) -> None:
    """Put one value of SageMaker's into CloudWatch."""
    _module("ministack.services.cloudwatch").record_metric("AWS/SageMaker", name, value, unit, dimensions)


def tell(source: str, kind: str, resources: list[str], detail: dict[str, Any]) -> None:
    """An event of an AWS service, which its API lets nobody else send."""
    entry = {"Source": source, "DetailType": kind, "Resources": resources, "Detail": json.dumps(detail)}
    _module("ministack.services.eventbridge")._put_events({"Entries": [entry]}, allow_aws_source=True)


def end_lambdas() -> None:
    """End every Lambda worker."""
    _module("ministack.core.lambda_runtime").reset()


def _module(name: str) -> ModuleType:
    return importlib.import_module(name)
