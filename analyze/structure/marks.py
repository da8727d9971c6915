"""Which annotations, and which parts of their names, say nothing about the model?"""

from __future__ import annotations

import re

# Inductor marks every call of a compiled graph with the graph's cache key. Such a mark is no layer of the model.
COMPILER = "## Call CompiledFxGraph"
# The number at the end of a step's name, with the characters that join it to the name.
STEP_NUMBER = re.compile(r"[\s#:=_.-]*\d+\Z")
