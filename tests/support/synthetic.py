"""Makes Kineto traces, exact to the nanosecond, with one readable line for each event.

    builder = TraceBuilder()
    builder.operator(0, 50, "aten::mm")
    builder.launch(call=(10, 5), kernel=(100, 20), name="gemm")
    builder.trace()            # a loaded Trace; or .json(), .json_gz(), .write(path)

Spans are `start, duration` in integer nanoseconds. The file holds microseconds with three decimals, as Kineto writes them.
"""

from __future__ import annotations

import gzip
import itertools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracekit.analyze.trace.loader import load
from tracekit.analyze.trace.trace import Trace

OLD_CATEGORIES = {
    "kernel": "Kernel",
    "gpu_memcpy": "Memcpy",
    "gpu_memset": "Memset",
    "cuda_runtime": "Runtime",
    "cpu_op": "Operator",
}
PROCESS = 100
THREAD = 1
STREAM = 7

EVENT_FIELDS = ("ph", "cat", "name", "pid", "tid", "ts", "dur", "args")
EVENT_ARGS = (
    "correlation",
    "device",
    "stream",
    "bytes",
    "grid",
    "block",
    "registers per thread",
    "shared memory",
    "est. achieved occupancy %",
    "Input Dims",
    "Input type",
    "Input Strides",
    "Concrete Inputs",
)
"""The keys of an event, and of its `args`, that tests of broken traces overwrite."""

Span = tuple[int, int]


class Ns(int):
    """A time in nanoseconds that is written as microseconds."""


class TraceBuilder:
    """Collects events. A test may change `entries` as it likes."""

    def __init__(self, *, base_ns: int = 0, old_format: bool = False, **metadata: Any) -> None:
        """Times count from `base_ns`. The old format has whole microseconds and capitalised categories."""
        self.base_ns = base_ns
        self.old_format = old_format
        self.metadata = metadata
        self.entries: list[Any] = []
        self._correlations = itertools.count(1)

    # --- Events ------------------------------------------------------------------------------------------------

    def event(self, start: int, duration: int, **fields: Any) -> dict[str, Any]:
        """Add any complete event. Return its entry."""
        entry = {"ph": "X", **fields, "ts": Ns(self.base_ns + start), "dur": Ns(duration)}
        self.entries.append(entry)
        return entry

    def set(self, place: int, key: str, value: Any) -> None:
        """Overwrite a field of the entry at `place`, or an argument of it if it has arguments."""
        entry = self.entries[place]
        if key in EVENT_FIELDS:
            entry[key] = value
        elif isinstance(entry.get("args"), dict):
            entry["args"][key] = value

    def kernel(self, start: int, duration: int, name: str = "kernel", **where: Any) -> dict[str, Any]:
        return self._gpu("kernel", start, duration, name, **where)

    def memcpy(self, start: int, duration: int, name: str = "Memcpy HtoD (Pinned -> Device)", **where: Any) -> dict[str, Any]:
        return self._gpu("gpu_memcpy", start, duration, name, **where)

    def memset(self, start: int, duration: int, name: str = "Memset (Device)", **where: Any) -> dict[str, Any]:
        return self._gpu("gpu_memset", start, duration, name, **where)

    def call(
        self,
        start: int,
        duration: int,
        name: str = "cudaLaunchKernel",
        *,
        thread: int | str = THREAD,
        correlation: int | None = None,
        driver: bool = False,
    ) -> dict[str, Any]:
        """Add a runtime call, or a driver call. Return its entry."""
        args = {} if correlation is None else {"correlation": correlation}
        category = "cuda_driver" if driver else "cuda_runtime"
        return self._host(category, start, duration, name, thread, args=args)

    def operator(
        self, start: int, duration: int, name: str = "aten::add", *, thread: int | str = THREAD, **args: Any
    ) -> dict[str, Any]:
        """Add a host operator. `args` are its recorded inputs. Return its entry."""
        return self._host("cpu_op", start, duration, name, thread, **({"args": args} if args else {}))

    def annotation(self, start: int, duration: int, name: str = "step", *, thread: int | str = THREAD) -> dict[str, Any]:
        return self._host("user_annotation", start, duration, name, thread)

    def module(self, start: int, duration: int, name: str = "Linear_0", *, thread: int | str = THREAD) -> dict[str, Any]:
        return self._host("python_function", start, duration, f"nn.Module: {name}", thread)

    def wait(
        self,
        start: int,
        duration: int,
        kind: str = "Stream Wait Event",
        *,
        stream: int = STREAM,
        on: int | None = None,
        device: int = 0,
        correlation: int | None = None,
    ) -> dict[str, Any]:
        """Add a `cuda_sync` event: the stream waits for an event of the stream `on`, or the host waits. Return its entry."""
        args = {"cuda_sync_kind": kind, "stream": stream, "device": device, "wait_on_stream": -1 if on is None else on}
        if correlation is not None:
            args["correlation"] = correlation
        return self.event(start, duration, cat="cuda_sync", name=kind, pid=device, tid=stream, args=args)

    def overhead(self, start: int, duration: int, name: str = "Activity Buffer Request") -> dict[str, Any]:
        """Add an `overhead` event, as CUPTI records it. Return its entry."""
        return self.event(start, duration, cat="overhead", name=name, pid=-1, tid=0)

    def launch(
        self,
        *,
        call: Span,
        kernel: Span,
        name: str = "kernel",
        call_name: str = "cudaLaunchKernel",
        thread: int | str = THREAD,
        stream: int = STREAM,
        **args: Any,
    ) -> int:
        """Add a launching call and its kernel. Return the correlation that they share."""
        correlation = next(self._correlations)
        self.call(*call, call_name, thread=thread, correlation=correlation)
        self.kernel(*kernel, name, stream=stream, correlation=correlation, **args)
        return correlation

    def graph(
        self,
        *,
        call: Span,
        kernels: list[Span],
        names: Sequence[str] | None = None,
        thread: int | str = THREAD,
        stream: int = STREAM,
    ) -> int:
        """Add one graph launch and its kernels (`node0`, `node1`, … unless named). Return the correlation that all share."""
        correlation = next(self._correlations)
        self.call(*call, "cudaGraphLaunch", thread=thread, correlation=correlation)
        for span, name in zip(kernels, names or [f"node{number}" for number in range(len(kernels))], strict=True):
            self.kernel(*span, name, stream=stream, correlation=correlation)
        return correlation

    def _gpu(
        self,
        category: str,
        start: int,
        duration: int,
        name: str,
        *,
        stream: int = STREAM,
        device: int = 0,
        correlation: int | None = None,
        **args: Any,
    ) -> dict[str, Any]:
        args = {"device": device, "stream": stream, **args}
        if correlation is not None:
            args["correlation"] = correlation
        return self.event(start, duration, cat=self._cat(category), name=name, pid=device, tid=stream, args=args)

    def _host(self, category: str, start: int, duration: int, name: str, thread: int | str, **fields: Any) -> dict[str, Any]:
        return self.event(start, duration, cat=self._cat(category), name=name, pid=PROCESS, tid=thread, **fields)

    def _cat(self, category: str) -> str:
        return OLD_CATEGORIES.get(category, category) if self.old_format else category

    # --- The file ----------------------------------------------------------------------------------------------

    def json(self, *, bare: bool = False) -> bytes:
        """The file's bytes. If `bare`, the file is only the list of events."""
        events = "[" + ",\n".join(map(self._entry, self.entries)) + "]"
        if bare:
            return events.encode()
        before = "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in self.metadata.items())
        return f'{{{before}"traceEvents": {events}}}'.encode()

    def json_gz(self) -> bytes:
        return gzip.compress(self.json(), 1, mtime=0)

    def write(self, path: Path) -> Path:
        """Write the file, compressed with gzip if its name ends in `.gz`. Return its path."""
        path.write_bytes(self.json_gz() if path.suffix == ".gz" else self.json())
        return path

    def trace(self, name: str = "trace.json") -> Trace:
        """The trace, as the loader reads it from a file of this name."""
        return load_bytes(self.json(), name)

    def _entry(self, entry: Any) -> str:
        if not isinstance(entry, dict):
            return json.dumps(entry)
        fields = (f"{json.dumps(key)}: {self._value(value)}" for key, value in entry.items())
        return "{" + ", ".join(fields) + "}"

    def _value(self, value: Any) -> str:
        return microseconds(value, whole=self.old_format) if isinstance(value, Ns) else json.dumps(value)


def microseconds(ns: int, *, whole: bool = False) -> str:
    """Nanoseconds as Kineto writes them: as microseconds with three decimals, or as whole microseconds."""
    sign, (us, rest) = "-" if ns < 0 else "", divmod(abs(ns), 1000)
    if whole:
        assert not rest, f"{ns} ns is no whole number of microseconds"
        return f"{sign}{us}"
    return f"{sign}{us}.{rest:03d}"


def load_bytes(data: bytes, name: str = "trace.json") -> Trace:
    """Load a trace from a file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        return load(path)


def queue(*items: tuple[int, int, int]) -> TraceBuilder:
    """Kernels on one stream: how long the host works before, how long the call takes, how long the kernel."""
    builder, host, device = TraceBuilder(), 0, 0
    for work, call, kernel in items:
        host += work
        start = max(host + call, device)
        builder.launch(call=(host, call), kernel=(start, kernel))
        host += call
        device = start + kernel
    return builder
