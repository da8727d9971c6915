"""Do measured results stand by device and condition, and quoted ones apart?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracekit.report.bundle import Bundle
from tracekit.report.nonbreaking import NBSP
from tracekit.report.render import to_html
from tracekit.report.results import Results, fastest, results
from tracekit.report.tables import TableView

Parts = tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]
Load = Callable[..., Bundle]
Make = Callable[..., Parts]


def ran(part: Parts, variant: str, milliseconds: float, *, device: str | None = None, **timings: Any) -> Parts:
    """The same trace with another manifest: a run of 100 tokens that took so long."""
    document, tables = part
    manifest = document["manifest"]
    ns = int(milliseconds * 1e6)
    total = {"median_ns": ns, "mean_ns": ns, "std_ns": ns // 50, "p10_ns": ns * 98 // 100, "p90_ns": ns * 105 // 100}
    changed = manifest | {
        "variant": variant,
        "timings": manifest["timings"] | {"total": total, "tokens_per_second": 1e5 / milliseconds, **timings},
    }
    named = {} if device is None else {"device": document["device"] | {"name": device}}
    return document | {"manifest": changed, **named}, tables


def found(load: Load, *parts: Parts) -> Results:
    traces = load(*parts).traces
    table = results(traces, [trace.name for trace in traces])
    assert table is not None
    return table


def records(table: TableView) -> list[dict[str, str]]:
    names = [column.label for column in table.columns]
    return [dict(zip(names, (cell.text.replace(NBSP, " ") for cell in row), strict=True)) for row in table.rows]


def test_one_device_is_one_table_with_bars_against_its_fastest(load: Load, parts: Make) -> None:
    (table,) = found(load, ran(parts(), "baseline", 600), ran(parts(), "graphs", 150)).measured

    assert table.title == "Measured on NVIDIA H100 80GB HBM3"
    assert table.note.startswith(
        "gpt2, generate, batch 1, 16 + 100 tokens, greedy, random weights; without the profiler, 3 runs"
    )
    base, graphs = records(table)
    assert (base["Variant"], base["Tokens/s"], base["Reduction"]) == ("baseline", "167", "baseline")
    assert graphs["Median"] == "150 ± 3.00 ms"
    assert graphs["p10 to p90"] == "147 to 158 ms"
    assert graphs["Reduction"] == "75.0 %"
    assert graphs["Profiled"] == "2.10×"
    assert [row[1].bar for row in table.rows] == [0.25, 1.0]
    assert "Per token" not in base  # nothing measured it


def test_what_the_manifest_says_of_the_reduction_goes_first(load: Load, parts: Make) -> None:
    runs = [ran(parts(), "baseline", 600), ran(parts(), "fp16", 640, reduction_percent=-6.7, baseline="b")]
    fp16, _ = records(found(load, *runs).measured[0])
    assert fp16["Reduction"] == "−6.7 %"


def test_against_several_baselines_there_is_no_reduction(load: Load, parts: Make) -> None:
    runs = [ran(parts(), "baseline", 600), ran(parts(), "baseline", 500), ran(parts(), "fp16", 400)]
    assert records(found(load, *runs).measured[0])[-1]["Reduction"] == "–"


def test_accuracy_and_events(load: Load, parts: Make) -> None:
    event = {"median_ns": 5_000_000, "mean_ns": 0, "std_ns": 0, "p10_ns": 0, "p90_ns": 0}
    document, tables = ran(parts(), "fp16", 500, event_token=event)
    accuracy = {"reference": "gpt2-baseline", "relative_error": 0.0032, "bound": 0.02, "equal_tokens": 97, "tokens": 100}
    good = document | {"manifest": document["manifest"] | {"accuracy": accuracy, "attention": "explicit"}}
    bad = document | {"manifest": document["manifest"] | {"accuracy": accuracy | {"relative_error": 0.05}}}
    first, second = records(found(load, (good, tables), (bad, tables)).measured[0])

    assert first["Variant"] == "fp16, explicit attention"
    assert (first["Error"], first["Same tokens"], first["Per token"]) == ("3.2e-3 of 2e-2", "97 of 100", "5.00 ms")
    assert second["Error"] == "5e-2 of 2e-2: too far off"


def test_whether_they_took_turns_is_said(load: Load, parts: Make) -> None:
    def two(**timings: Any) -> str:
        runs = [ran(parts(), "a", 600, interleaved_with=["b"]), ran(parts(), "b", 500, **timings)]
        return found(load, *runs).measured[0].note

    assert two(interleaved_with=["a"]).endswith("The variants took turns.")
    assert "drift" in two()


def test_another_device_is_another_table(load: Load, parts: Make) -> None:
    tables = found(load, ran(parts(), "baseline", 600), ran(parts(), "graphs", 900, device="Tesla T4")).measured

    assert [table.title for table in tables] == ["Measured on NVIDIA H100 80GB HBM3", "Measured on Tesla T4"]
    assert [row[1].bar for table in tables for row in table.rows] == [1.0, 1.0]
    assert records(tables[1])[0].get("Reduction", "–") == "–"


def test_other_conditions_are_another_table(load: Load, parts: Make) -> None:
    document, rows = ran(parts(), "graphs", 900)
    longer = document["manifest"] | {"workload": document["manifest"]["workload"] | {"new_tokens": 500}}
    assert len(found(load, ran(parts(), "baseline", 600), (document | {"manifest": longer}, rows)).measured) == 2


def test_the_quoted_table_is_word_for_word_and_has_no_bar(load: Load, parts: Make) -> None:
    table = found(load, parts(), parts()).quoted

    assert table is not None
    assert "Tesla T4, as its authors report" in table.title
    assert records(table)[0] == {
        "Method": "No optimizations (FP32)",
        "Here": "baseline",
        "Tokens/s": "76.34",
        "Mean": "1.3099 ± 0.1762 s",
        "Reduction": "NIL",
    }
    assert records(table)[3]["Reduction"] == "62.96 %"
    assert all(cell.bar is None for row in table.rows for cell in row)


def test_it_is_quoted_for_its_own_model_only(load: Load, parts: Make) -> None:
    document, tables = parts()
    tiny = document["manifest"] | {"model": document["manifest"]["model"] | {"name": "tiny"}}
    assert found(load, (document | {"manifest": tiny}, tables)).quoted is None


def test_the_page_marks_what_is_quoted(load: Load, parts: Make) -> None:
    html = to_html(load(parts(), parts()))
    before, _, after = html.partition('<aside class="quoted"')
    assert "76.34" not in before.partition("<body>")[2]
    assert "76.34" in after.partition("</aside>")[0]
    # No chart holds a figure of another device than it names.
    assert "76.34" not in after.partition("</aside>")[2]


def test_without_manifests_there_are_no_results(load: Load, parts: Make) -> None:
    document, tables = parts()
    bare = (document | {"manifest": None}, tables)
    traces = load(bare, bare).traces
    assert results(traces, ["a", "b"]) is None
    assert "How fast is each" not in to_html(load(bare, bare))


def test_the_fastest_is_named_first(load: Load, parts: Make) -> None:
    runs = [
        ran(parts(), "baseline", 600),
        ran(parts(), "fp16", 640, reduction_percent=-6.7, baseline="b"),
        ran(parts(), "graphs", 60, reduction_percent=90.0, baseline="b"),
    ]
    traces = load(*runs).traces
    said = fastest(traces).replace(NBSP, " ")
    assert said.endswith("graphs is fastest: 1,670 tokens/s, 90.0 % less time than the baseline.")
    assert "no variant is faster" in fastest(traces[:2])
    assert fastest(traces[:1]) == ""
