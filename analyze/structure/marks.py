"""Which names of annotations are not the user's own words for a part of the model?"""

from __future__ import annotations

import re

# Inductor marks every call of a compiled graph with its cache key: no layer of the model.
COMPILER = "## Call CompiledFxGraph"
# The last number of a step's name, with what joins it to the name.
STEP_NUMBER = re.compile(r"[\s#:=_.-]*\d+\Z")
