"""Every category of Kineto's has its place; what is not read is told, and a file of another program is refused by name."""

from __future__ import annotations

import gzip
import json

import pytest
from synthetic import TraceBuilder, load_bytes

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.trace.trace import CALLS, CATEGORIES, GPU, Category, Trace
from tracekit.errors import TraceError
from tracekit.taxonomy import Taxonomy

# What `toString(ActivityType)` of Kineto returns, of all releases.
KINETO = (
    *("cpu_op", "user_annotation", "gpu_user_annotation", "gpu_memcpy", "gpu_memset"),
    *("kernel", "external_correlation", "cuda_runtime", "cuda_driver", "cpu_instant_event"),
    *("python_function", "overhead", "mtia_runtime", "mtia_ccp_events", "mtia_insight"),
    *("mtia_workloadd", "mtia_counters", "cuda_sync", "cuda_event", "glow_runtime"),
    *("cuda_profiler_range", "hpu_op", "xpu_runtime", "xpu_driver", "xpu_sync"),
    *("xpu_scope_profiler", "collective_comm", "privateuse1_runtime", "privateuse1_driver", "gpu_pm_counter"),
)


def codes(trace: Trace) -> dict[str, int]:
    return {warning.code: warning.count for warning in trace.warnings}


def told(trace: Trace) -> str:
    return " ".join(warning.message for warning in Analysis(trace, Taxonomy([])).warnings)


def complete(trace: Trace) -> bool:
    return Analysis(trace, Taxonomy([])).complete


def base(**odd: object) -> TraceBuilder:
    """A launch and its kernel, and one more event with these fields."""
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(10, 5))
    if odd:
        builder.event(20, 5, **{"pid": 1, "tid": 1, "name": "odd", **odd})
    return builder


@pytest.mark.parametrize("category", [*KINETO, "Trace", "hip_runtime", "hip_driver", "Kernel"])
def test_no_category_of_kineto_is_unknown(category):
    trace = base(cat=category).trace()

    assert trace.events["category"][2] != Category.OTHER
    assert "unknown_categories" not in codes(trace)


@pytest.mark.parametrize(
    ("category", "kind"),
    [
        ("xpu_runtime", Category.RUNTIME),
        ("xpu_driver", Category.DRIVER),
        ("mtia_runtime", Category.RUNTIME),
        ("privateuse1_runtime", Category.RUNTIME),
        ("cuda_sync", Category.SYNC),
        ("xpu_sync", Category.SYNC),
        ("overhead", Category.OVERHEAD),
        ("mtia_ccp_events", Category.DEVICE),
        ("gpu_user_annotation", Category.IGNORED),
        ("Trace", Category.IGNORED),
        ("my_own", Category.OTHER),
    ],
)
def test_rows_are_kept_under_their_kind(category, kind):
    trace = base(cat=category).trace()

    assert trace.where(kind).tolist()[-1] == 2
    assert len(trace) == 3


def test_ignored_kinds_are_neither_work_nor_calls():
    assert not set(CATEGORIES.values()) & {Category.OTHER}
    assert not {Category.SYNC, Category.OVERHEAD, Category.DEVICE, Category.IGNORED} & {*GPU, *CALLS}


def test_a_kernel_finds_its_call_of_the_xpu_runtime():
    builder = TraceBuilder()
    builder.operator(0, 50)
    call = builder.call(10, 5, "urEnqueueKernelLaunch", correlation=7)
    call["cat"] = "xpu_runtime"
    builder.kernel(100, 20, correlation=7)
    trace = builder.trace()

    assert trace.call_of_gpu.tolist() == [1]
    assert codes(trace) == {}


def test_unknown_categories_are_counted_and_three_are_named():
    builder = base(cat="a")
    for category in ("b", "b", "b", "c", "d", "e", None):
        builder.event(30, 5, cat=category, name="odd", pid=1, tid=1)
    trace = builder.trace()

    assert codes(trace) == {"unknown_categories": 8}
    assert trace.warnings[0].message == "8 complete events of the categories b, a, c and 3 more are not read"
    assert complete(trace)


def test_one_event_without_a_category():
    assert base(cat=None).trace().warnings[0].message == "1 complete event of no category is not read"


@pytest.mark.parametrize("category", ["ac2g", "fwdbwd"])
def test_flows_are_no_events(category):
    builder = base()
    builder.entries.append({"ph": "s", "id": 4, "pid": 1, "tid": 2, "ts": 3.5, "cat": category, "name": category})

    assert codes(builder.trace()) == {}


@pytest.mark.parametrize("args", [{"device": 0}, {"stream": 7}])
def test_unknown_work_of_a_device_is_missing_from_the_figures(args):
    trace = base(cat="npu_kernel", args=args).trace()

    assert codes(trace) == {"unread_device_events": 1}
    assert trace.warnings[0].message == (
        "1 complete event of the category npu_kernel is not read: it is work of a device, and no figure holds it"
    )
    assert not complete(trace)


def test_several_events_of_a_device_are_told_together():
    builder = base(cat="npu_kernel", args={"device": 0})
    builder.event(30, 5, cat="npu_copy", name="odd", pid=1, tid=1, args={"stream": 3})
    builder.event(40, 5, cat="npu_copy", name="odd", pid=1, tid=1, args={"stream": 3})

    (warning,) = builder.trace().warnings
    assert (warning.code, warning.count) == ("unread_device_events", 3)
    assert warning.message == (
        "3 complete events of the categories npu_copy, npu_kernel are not read: "
        "they are work of a device, and no figure holds them"
    )


@pytest.mark.parametrize("category", ["npu_kernel", "mtia_ccp_events", "privateuse1_driver", "hpu_op"])
def test_nothing_is_called_dropped_or_host_only_while_work_is_not_read(category):
    builder = TraceBuilder()
    builder.operator(0, 50)
    builder.call(10, 5, "vendorLaunchKernel", correlation=7)
    builder.event(100, 20, cat=category, name="work", pid=0, tid=7, args={"device": 0, "stream": 7, "correlation": 7})
    trace = builder.trace()

    assert "dropped" not in told(trace)
    assert "host only" not in told(trace)
    assert "not read" in told(trace)
    assert codes(trace) == {"unread_device_events": 1}


def test_the_host_alone_is_still_called_so():
    builder = TraceBuilder()
    builder.operator(0, 50)
    builder.call(10, 5, "cudaLaunchKernel", correlation=7)

    assert "host only" in told(builder.trace())


@pytest.mark.parametrize("name", ["cudaLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync"])
@pytest.mark.parametrize("unread", [True, False])
def test_the_profiler_lost_events_only_where_none_are_unread(name, unread):
    builder = base(cat="npu_kernel", args={"stream": 3}) if unread else base()
    builder.call(30, 5, name, correlation=99)
    found = told(builder.trace())

    assert ("may be among the device events that are not read" in found) == unread
    assert ("the profiler dropped" in found or "the profiler lost" in found) == (not unread)


@pytest.mark.parametrize("category", ["privateuse1_driver", "hpu_op"])
def test_calls_that_may_be_work_are_calls_beside_kernels(category):
    trace = base(cat=category).trace()

    assert codes(trace) == {}
    assert 2 in trace.calls.tolist()


# --- Other programs ----------------------------------------------------------------------------------------------------


def process(name: str) -> dict[str, object]:
    return {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": name}}


def span(**fields: object) -> dict[str, object]:
    return {"ph": "X", "pid": 1, "tid": 1, "ts": 1.5, "dur": 2, "name": "a", **fields}


@pytest.mark.parametrize(
    ("events", "looks_like"),
    [
        ([process("/device:GPU:0 NVIDIA A100"), span(name="loop_add_fusion", args={"hlo_op": "f"})], "JAX or XProf"),
        ([process("/host:CPU"), span(name="PjitFunction(step)")], "JAX or XProf"),
        ([process("/job:localhost/replica:0/task:0/device:CPU:0 Compute"), span(cat="Op")], "TensorFlow"),
        ([span(pid="CPU functions"), span(pid="CUDA functions")], "old torch.autograd.profiler"),
        ([span(cat="v8"), span(cat="blink")], "Chrome browser"),
        ([span(cat="FEE", name="main (a.py:3)"), process("VizTracer")], "VizTracer"),
        ([span(), span(cat="work")], "some other program"),
    ],
)
@pytest.mark.parametrize("bare", [True, False])
def test_a_trace_of_another_program_is_named(events, looks_like, bare):
    data = json.dumps(events if bare else {"traceEvents": events}).encode()
    for content in (data, gzip.compress(data)):
        with pytest.raises(TraceError) as caught:
            load_bytes(content)
        line = str(caught.value)
        assert looks_like in line
        assert "torch.profiler" in line
        assert "\n" not in line


@pytest.mark.parametrize("name", ["PjitFunction(step)", "/device:GPU:0", "VizTracer"])
def test_a_torch_trace_may_use_their_words(name):
    builder = base(cat="cpu_op", name=name)

    assert len(builder.trace()) == 3
