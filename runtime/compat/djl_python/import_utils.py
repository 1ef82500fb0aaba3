"""Libraries of classical models that may be installed: `from djl_python.import_utils import xgboost, joblib`.

Each is the module, or None. None of them comes with an image: a model's requirements.txt brings them.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

_MODULES = {"joblib": "joblib", "cloudpickle": "cloudpickle", "skops_io": "skops.io", "xgboost": "xgboost"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULES[name]
    return importlib.import_module(module) if _available(module.partition(".")[0]) else None


def is_joblib_available() -> bool:
    """It is installed."""
    return _available("joblib")


def is_cloudpickle_available() -> bool:
    """It is installed."""
    return _available("cloudpickle")


def is_skops_available() -> bool:
    """It is installed."""
    return _available("skops")


def is_xgboost_available() -> bool:
    """It is installed."""
    return _available("xgboost")


def _available(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
