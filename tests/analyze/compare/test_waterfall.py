"""The span's difference, part by part: a worked example, any traces at all, and every pair of real ones, to the nanosecond."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.compare.side import Side, analysed
from tracekit.analyze.compare.waterfall import KINDS, waterfall
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
GEMM, ADD = "volta_sgemm_64x64_nn", "vectorized_elementwise_kernel"


def side(builder: TraceBuilder) -> Side:
    return analysed(Analysis(builder.trace(), TAXONOMY))


def parts(a: Side, b: Side, section: str = "gpu") -> dict[str, tuple[int, int]]:
    """The parts that are not zero."""
    return {part.name: (part.a_ns, part.b_ns) for part in waterfall(a, b, section).parts if part.a_ns or part.b_ns}


def test_a_worked_example():
    slow, fast = TraceBuilder(), TraceBuilder()
    slow.kernel(0, 100, GEMM)
    slow.launch(call=(110, 5), kernel=(150, 50), name=ADD)  # a gap of 50: 10 before the call, 40 from it
    fast.kernel(0, 60, GEMM, stream=1)
    fast.kernel(40, 50, ADD, stream=2)  # of which 20 at the same time
    fast.memcpy(90, 5)
    a, b = side(slow), side(fast)

    assert parts(a, b) == {
        "gemm": (100, 60),
        "elementwise": (50, 50),
        "memory": (0, 5),
        "overlap": (0, -20),
        "host_other": (10, 0),
        "launch_latency": (40, 0),
    }
    found = waterfall(a, b, "gpu")
    assert (found.a_ns, found.b_ns, found.delta_ns) == (200, 95, -105)


def test_kernels_that_overlap_on_one_stream_overlap_too():
    builder = TraceBuilder()
    builder.kernel(0, 100, GEMM)
    builder.kernel(90, 30, GEMM)

    assert parts(side(builder), side(builder)) == {"gemm": (130, 130), "overlap": (-10, -10)}


def test_the_parts_stand_in_one_order_whichever_trace_is_first():
    one, other = TraceBuilder(), TraceBuilder()
    one.kernel(0, 10, ADD)
    one.memset(20, 5)
    other.kernel(0, 10, GEMM)
    a, b = side(one), side(other)

    order = [part.name for part in waterfall(a, b, "gpu").parts]
    assert order == [part.name for part in waterfall(b, a, "gpu").parts]
    kinds = [KINDS.index(part.kind) for part in waterfall(a, b, "gpu").parts]
    assert kinds == sorted(kinds)
    assert order.index("gemm") < order.index("elementwise") < order.index("memory") < order.index("overlap")


def test_the_host_is_its_operators_and_the_rest():
    one, two = TraceBuilder(), TraceBuilder()
    one.operator(0, 40)
    one.call(90, 10)
    for thread in (1, 2):
        two.operator(0, 40, thread=thread)
    a, b = side(one), side(two)

    assert parts(a, b, "host") == {"operators": (40, 80), "rest": (60, -40)}
    assert waterfall(a, b, "host").delta_ns == -60


SPANS = st.tuples(st.integers(0, 500), st.integers(0, 200))
EVENTS = st.lists(
    st.tuples(SPANS, st.integers(1, 3), st.sampled_from((GEMM, ADD, "ncclKernel_AllReduce", "copy", "?")), st.none() | SPANS),
    min_size=1,
    max_size=8,
)


def built(events: list[tuple[tuple[int, int], int, str, tuple[int, int] | None]]) -> TraceBuilder:
    """Kernels and copies on several streams, some of them with the call that launched them."""
    builder = TraceBuilder()
    builder.operator(50, 200)
    for span, stream, name, call in events:
        if name == "copy":
            builder.memcpy(*span, stream=stream)
        elif call is None:
            builder.kernel(*span, name, stream=stream)
        else:
            builder.launch(call=call, kernel=span, name=name, stream=stream)
    return builder


@given(EVENTS, EVENTS)
@examples(150)
def test_the_parts_add_up_to_the_difference_of_any_traces(one, other):
    a, b = side(built(one)), side(built(other))
    for section in ("gpu", "host"):
        found = waterfall(a, b, section)
        assert found.a_ns == sum(part.a_ns for part in found.parts)
        assert found.a_ns + sum(part.delta_ns for part in found.parts) == found.b_ns
        assert [part for part in found.parts if part.kind in ("busy", "idle") and min(part.a_ns, part.b_ns) < 0] == []
        assert [part for part in found.parts if part.kind == "overlap" and max(part.a_ns, part.b_ns) > 0] == []
