"""What kinds of columns are there, and how does a list of Python values become one?"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Objects = npt.NDArray[np.object_]


def objects(values: Collection[Any]) -> Objects:
    """A column of any Python values. A list or tuple among them stays one value."""
    return np.fromiter(values, dtype=object, count=len(values))
