"""Who wrote a Chrome trace that torch.profiler did not write?"""

from __future__ import annotations

import re

HEAD = 1 << 20
"""How many bytes of the file are searched for marks."""

# The first that matches decides. Names of processes stand near the beginning; so do the first events.
MARKS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (
        re.compile(rb'"PjitFunction|"jit_|"jit\(|\bjax[._]|jaxlib|"hlo_(?:op|module)"|"/device:(?:GPU|TPU)'),
        "a trace of JAX or XProf",
    ),
    (re.compile(rb'"cat"\s*:\s*"Op"|/job:[a-z]+/replica:|"tf_op"|"/host:CPU"|tensorflow'), "a trace of TensorFlow"),
    (re.compile(rb'"pid"\s*:\s*"(?:CPU|CUDA|XPU) functions"', re.IGNORECASE), "a trace of the old torch.autograd.profiler"),
    (re.compile(rb'"cat"\s*:\s*"(?:dynamo_timed|compile_time)"'), "a trace of torch.compile's own work"),
    (re.compile(rb"viztracer", re.IGNORECASE), "a trace of VizTracer"),
    (re.compile(rb'"cat"\s*:\s*"(?:toplevel|blink|v8|devtools\.timeline|__metadata)'), "a trace of the Chrome browser"),
)


def written_by(data: bytes) -> str:
    """What a Chrome trace looks like whose events are of no category of torch.profiler's."""
    head = data[:HEAD]
    return next((what for mark, what in MARKS if mark.search(head)), "a Chrome trace of some other program")
