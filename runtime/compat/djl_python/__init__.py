"""The names that LMI's scripts import: `from djl_python import Input, Output`. Written anew; not upstream's package.

Names, behaviour and defaults are those that deepjavalibrary/djl-serving documents and tests (v0.23 to v0.36). Only
streaming_utils.py needs the runtime: a user's own tests run with just this folder on PYTHONPATH (test_model.py).
"""

from djl_python.inputs import Input
from djl_python.outputs import Output
from djl_python.pair_list import PairList
from djl_python.session_manager import Session, SessionManager

__all__ = ["Input", "Output", "PairList", "Session", "SessionManager"]
