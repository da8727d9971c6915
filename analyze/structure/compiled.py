"""Which compiled code do kernels come from, and which source operators did Inductor fuse into the generated ones?

torch.compile marks what it runs. A `Torch-Compiled Region` is a call of the compiled function. A `CompiledFxGraph` is a call of
the code that Inductor made from a graph; it lies inside a region or in the backward pass. The names of the kernels that
Inductor generated list their operators (`tracekit.inductor`). Kernels that a CUDA graph replays belong to the code in which the
graph was launched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from tracekit.inductor import Operators, is_generated
from tracekit.table import Table

from ..trace.arrays import Bools, Int64s, Objects, objects
from ..trace.group import group
from ..trace.trace import Category, Trace

REGION = re.compile(r"Torch-Compiled Region:? *(?P<id>.*?) *\Z", re.DOTALL)
FX_GRAPH = re.compile(r"## Call CompiledFxGraph *(?P<id>.*?) *(?:##)? *\Z", re.DOTALL)


@dataclass(frozen=True)
class Compiled:
    """The calls of compiled code, and all kernels of the trace.

    `code_of_call` and `code_of_kernel` encode the region and the graph as one number, which `_names` decodes. 0 stands for code
    that was not compiled.
    """

    calls: Int64s
    """Rows of `trace.events`: the calls of graphs, and the calls of regions that call no graph."""
    code_of_call: Int64s
    duration_ns: Int64s
    """The duration of each kernel."""
    name: Int64s
    """The name of each kernel, as an index into `trace.strings`."""
    generated: Bools
    """Whether Inductor generated each kernel."""
    code_of_kernel: Int64s


def compiled(trace: Trace) -> Compiled:
    """Find the compiled code in a trace."""
    host = trace.where(Category.OPERATOR, Category.ANNOTATION)
    regions, graphs = (trace.named(host, pattern.match) for pattern in (REGION, FX_GRAPH))
    around, inside = trace.nested(regions), trace.nested(graphs)
    region_of_graph = trace.enclosing(around, graphs)
    plain = np.setdiff1d(regions, region_of_graph)
    kernels = trace.gpu_kernels
    call, event = trace.call_of_gpu[kernels], trace.gpu["event"][kernels]
    no_graph = np.full(len(plain), -1, dtype=np.int64)
    name = trace.events["name"][event].astype(np.int64)
    return Compiled(
        calls=np.concatenate((graphs, plain)),
        code_of_call=np.concatenate((_code(trace, region_of_graph, graphs), _code(trace, plain, no_graph))),
        duration_ns=trace.events["duration_ns"][event],
        name=name,
        generated=_generated(trace, name)[name],
        code_of_kernel=_code(trace, trace.enclosing(around, call), trace.enclosing(inside, call)),
    )


def compiled_regions(trace: Trace, found: Compiled) -> Table:
    """One row for each compiled graph and the region that calls it, the most kernel time first; times in ns.

    Columns: `region` (such as `0/1`; None in a backward pass), `fx_graph` (Inductor's key; None for what a region runs outside
    its graphs), `calls`, `host_ns` (wall clock of the calls), `kernels` (launched inside), `time_ns` (of these kernels),
    `share` (of all kernel time), `generated` and `generated_ns` (number and time of those kernels that Inductor generated; the
    others come from a library or from the user).
    """
    launched = found.code_of_kernel > 0
    keys = np.unique(np.concatenate((found.code_of_call, found.code_of_kernel[launched])))

    def total(codes: Int64s, values: Int64s) -> Int64s:
        sums = np.zeros(len(keys), dtype=np.int64)
        np.add.at(sums, np.searchsorted(keys, codes), values)
        return sums

    code, duration = found.code_of_kernel[launched], found.duration_ns[launched]
    generated = found.generated[launched].astype(np.int64)
    time = total(code, duration)
    return Table(
        {
            **_names(trace, keys),
            "calls": total(found.code_of_call, np.ones_like(found.calls)),
            "host_ns": total(found.code_of_call, trace.events["duration_ns"][found.calls]),
            "kernels": total(code, np.ones_like(duration)),
            "time_ns": time,
            "share": time / max(int(found.duration_ns.sum()), 1),
            "generated": total(code, generated),
            "generated_ns": total(code, generated * duration),
        }
    ).sorted_by("time_ns", "host_ns", descending=True)


def generated_kernels(trace: Trace, found: Compiled) -> Table:
    """One row for each kernel that Inductor generated, the most time first.

    Columns: `name`, `source` (the operators that its name lists, joined by `, `; None if it lists none), `region` and
    `fx_graph` (the code that launched most of its time; both None outside compiled code, as in the replay of a graph that was
    captured by hand), `count`, `time_ns` and `share` (of all kernel time).
    """
    duration, code = found.duration_ns[found.generated], found.code_of_kernel[found.generated]
    by_name = group(found.name[found.generated])
    names, operators = trace.strings[by_name.keys], Operators() if len(by_name.keys) else None
    time = by_name.sum(duration)
    main = np.zeros(len(by_name.keys), dtype=np.int64)
    codes, place = np.unique(code, return_inverse=True)
    pairs = group(by_name.code * max(len(codes), 1) + place.reshape(-1))
    for pair in np.argsort(pairs.sum(duration), kind="stable").tolist():  # the last one written has most time
        kernel, which = divmod(int(pairs.keys[pair]), len(codes))
        main[kernel] = codes[which]
    listed = [", ".join(operators.fused_in(name)) or None if operators else None for name in names.tolist()]
    return Table(
        {
            "name": names,
            "source": objects(listed),
            **_names(trace, main),
            "count": by_name.count,
            "time_ns": time,
            "share": time / max(int(found.duration_ns.sum()), 1),
        }
    ).sorted_by("time_ns", descending=True)


def _generated(trace: Trace, names: Int64s) -> Bools:
    """For each of the trace's strings, whether it is one of these names and Inductor generated the kernel."""
    found = np.zeros(len(trace.strings), dtype=np.bool_)
    for name in np.unique(names).tolist():
        found[name] = is_generated(trace.strings[name])
    return found


def _code(trace: Trace, region: Int64s, graph: Int64s) -> Int64s:
    """The names of two marks, a region's and a graph's, encoded as one number; 0 if there is neither.

    The marks are rows of `trace.events`, or -1.
    """
    names = np.append(trace.events["name"], -1).astype(np.int64)  # so that row -1 finds -1
    return (names[region] + 1) * (len(trace.strings) + 1) + names[graph] + 1


def _names(trace: Trace, codes: Int64s) -> dict[str, Objects]:
    """The columns `region` and `fx_graph` for these codes. They hold only the id in each mark, not its fixed words."""
    pairs = [divmod(code, len(trace.strings) + 1) for code in codes.tolist()]
    columns = {"region": (REGION, [region for region, _ in pairs]), "fx_graph": (FX_GRAPH, [graph for _, graph in pairs])}
    return {column: objects([_id(trace, pattern, name - 1) for name in names]) for column, (pattern, names) in columns.items()}


def _id(trace: Trace, pattern: re.Pattern[str], name: int) -> str | None:
    mark = pattern.match(trace.strings[name]) if name >= 0 else None
    return mark["id"] if mark else None
