"""The types of what is computed with: one number, or an array of draws. No arithmetic."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.float64]
Value: TypeAlias = "float | Numbers"
