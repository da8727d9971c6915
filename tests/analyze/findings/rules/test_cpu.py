"""Programs that run on the CPU alone."""

from __future__ import annotations

import pytest
from operator_calls import recorded, t
from rule_traces import asked, device, reason, told
from synthetic import TraceBuilder

from tracekit.analyze.findings.rules.cpu import cpu_copies, cpu_float64, cpu_half, cpu_small_operators, cpu_threads

US = 1_000
RULES = (cpu_small_operators, cpu_copies, cpu_float64, cpu_half, cpu_threads)


def program(*operators: tuple[str, int, tuple[object, ...]], threads: int = 1, **metadata: object) -> TraceBuilder:
    """These operators one after another, with their times in µs and inputs, on each of the threads at once."""
    builder = TraceBuilder(**metadata)
    for thread in range(threads):
        at = 0
        for name, took, inputs in operators:
            builder.operator(at, took * US, name, thread=thread + 1, **(recorded(*inputs) if inputs else {}))
            at += (took + 1) * US
    return builder


def add(took: int = 5, dtype: str = "float") -> tuple[str, int, tuple[object, ...]]:
    return "aten::add", took, (t(100, dtype=dtype), t(100, dtype=dtype), 1)


def product(took: int, dtype: str = "float", size: int = 512) -> tuple[str, int, tuple[object, ...]]:
    return "aten::mm", took, (t(size, size, dtype=dtype), t(size, size, dtype=dtype))


def test_most_of_the_time_goes_to_small_operators():
    finding = told(cpu_small_operators, program(*[add()] * 60, product(690)))
    assert finding.affected_ns == 300 * US
    assert finding.saving_ns is None
    assert "60 operators of less than 10.0 µs" in finding.evidence
    assert "torch.compile" in finding.snippet


def test_large_operators_and_what_lies_inside_them():
    assert asked(cpu_small_operators, program(*[add()] * 60, product(710))) is None
    builder = program(*[add(100)] * 10)
    for place in range(10):
        builder.operator(101 * US * place + US, 5 * US, "aten::empty")
    assert asked(cpu_small_operators, builder) is None


def copying(took: int) -> TraceBuilder:
    """Products of 900 µs, each after a copy of so many µs for `aten::contiguous`."""
    builder = TraceBuilder()
    for place in range(5):
        at = 2_000 * US * place
        builder.operator(at, took * US, "aten::contiguous")
        builder.operator(at, took * US, "aten::clone")
        builder.operator(at, took * US, "aten::copy_")
        builder.operator(at + 1_000 * US, 900 * US, "aten::mm", **recorded(t(4, 4), t(4, 4)))
    return builder


def test_copies_and_who_asks_for_them():
    finding = told(cpu_copies, copying(100))
    assert finding.affected_ns == finding.saving_ns == 500 * US
    assert "most for aten::contiguous (500 µs)" in finding.evidence
    assert asked(cpu_copies, copying(99)) is None


def test_where_several_threads_run_operators_nothing_says_who_is_waited_for():
    builder = copying(110)
    builder.operator(0, US, "aten::add", thread=2)
    assert told(cpu_copies, builder).saving_ns is None


def test_double_precision():
    finding = told(cpu_float64, program(*[product(100, "double")] * 2, *[product(100)] * 8))
    assert (finding.affected_ns, finding.saving_ns) == (200 * US, 100 * US)
    assert asked(cpu_float64, program(product(100, "double"), *[product(100)] * 10)) is None


def test_a_number_in_python_is_no_tensor_of_doubles():
    scaled = ("aten::mul", 100, (t(100), t(dtype="double")))
    assert asked(cpu_float64, program(*[scaled] * 10)) is None
    assert asked(cpu_copies, program(*[("aten::copy_", 100, (t(), t(dtype="double"), False))] * 10)) is None


def test_products_of_two_bytes_without_the_processors_help():
    slow = program(*[product(100_000, "c10::BFloat16")] * 5, *[product(2_000)] * 5)  # 2.7 and 134 GFLOP/s
    finding = told(cpu_half, slow)
    assert "2.68 GFLOP/s, where float32 does 134 GFLOP/s" in finding.evidence
    assert finding.saving_ns is None


@pytest.mark.parametrize(
    "operators",
    [
        [product(1_000, "c10::BFloat16")] * 5,
        [product(100_000, "c10::BFloat16", 64)] * 5,
        [product(1_000, "c10::BFloat16")] * 5 + [product(2_000)] * 5,
        [product(100_000)] * 5,
    ],
    ids=["fast enough", "too small to tell", "faster than float32", "float32"],
)
def test_products_that_are_no_problem(operators):
    assert asked(cpu_half, program(*operators)) is None


def test_threads_that_run_operators_at_once():
    finding = told(cpu_threads, program(*[product(100)] * 5, threads=4))
    assert "4 threads run operators, 4.00 at once" in finding.evidence
    assert "set_num_threads" in finding.snippet
    assert "torch.get_num_threads()" in reason(cpu_threads, program(product(100)))


@pytest.mark.parametrize("rule", RULES)
def test_a_trace_with_a_gpu_is_another_matter(rule):
    builder = program(*[add()] * 60)
    builder.launch(call=(0, 5), kernel=(10, 5))
    assert asked(rule, builder) is None


@pytest.mark.parametrize("rule", RULES)
def test_operators_of_a_device_whose_work_was_not_recorded(rule):
    assert "ProfilerActivity.CUDA" in reason(rule, program(*[add()] * 60, deviceProperties=device()))
    builder = program(*[add()] * 60)
    builder.call(0, 5)
    assert "ProfilerActivity.CUDA" in reason(rule, builder)


def test_types_that_were_not_recorded():
    for rule in (cpu_float64, cpu_half):
        assert "record_shapes=True" in reason(rule, program(("aten::mm", 10, ())))
