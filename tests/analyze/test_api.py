"""Does what the README shows of the Python API work as it stands there?"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT, TRACES


def test_the_readmes_lines_of_python(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "from tracekit.analyze import" in block]
    trace = next(TRACES.glob("*graphs*.trace.json.gz"))
    (tmp_path / "my_trace.json.gz").write_bytes(trace.read_bytes())
    code = f"{block}\nprint(analysis.gpu.span_ns - analysis.gpu.busy_ns - analysis.idle.total_ns)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "0\n", done.stderr


def test_names_come_in_any_order() -> None:
    import tracekit.analyze
    from tracekit.analyze import Analyses, Analysis, Taxonomy, Trace, analyze, load

    assert load.__module__ == "tracekit.analyze.trace.loader"
    assert analyze.__module__ == Analyses.__module__ == "tracekit.analyze.run"
    assert {Analysis.__name__, Taxonomy.__name__, Trace.__name__} == {"Analysis", "Taxonomy", "Trace"}
    with pytest.raises(AttributeError, match="nonsense"):
        _ = tracekit.analyze.nonsense
