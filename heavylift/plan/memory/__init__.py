"""Who needs how many bytes, on an accelerator, the host, the disk and in shared memory; each row with its formula.

Not the choice of a type (instance.py), nor how fast it is.
"""

from heavylift.plan.memory.ledger import Placing, ledger
from heavylift.plan.memory.native import native_need
from heavylift.plan.memory.need import BYTES_PER_ELEMENT, GIB, Need, script_need

__all__ = ["BYTES_PER_ELEMENT", "GIB", "Need", "Placing", "ledger", "native_need", "script_need"]
