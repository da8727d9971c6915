"""Which datasheet is meant by a name, and is a table of one's own read with care?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tracekit.devices import PEAKS, choose_datasheet, datasheets, find_datasheet, load_datasheets
from tracekit.errors import TracekitError

MINE = """
[[device]]
name = "Mine (big)"
match = 'My GPU'
architecture = "mine"
compute_capability = "9.9"
memory_gb_s = 1000
tflops = { fp32 = 50, fp16 = 200 }
source = "the box it came in"
"""


@pytest.mark.parametrize(
    ("name", "memory_gb_s", "fp16"),
    [
        ("Tesla T4", 320, 65),
        ("Tesla P100-PCIE-16GB", 732, 18.7),
        ("Tesla V100-SXM2-32GB", 900, 125),
        ("NVIDIA A10", 600, 125),
        ("NVIDIA A100-SXM4-80GB", 2039, 312),
        ("NVIDIA A100-SXM4-40GB", 1555, 312),
        ("NVIDIA A100 80GB PCIe", 1935, 312),
        ("NVIDIA H100 80GB HBM3", 3350, 989.5),
        ("NVIDIA H100 PCIe", 2000, 756.5),
        ("NVIDIA H200", 4800, 989.5),
        ("NVIDIA B200", 7700, 2250),
        ("NVIDIA L4", 300, 121),
        ("NVIDIA L40S", 864, 362),
        ("NVIDIA GeForce RTX 2080 Ti", 616, 53.6),
        ("NVIDIA GeForce RTX 2070 SUPER", 448, 36.4),
        ("NVIDIA GeForce RTX 3080", 760, 59.6),
        ("NVIDIA GeForce RTX 3090", 936, 71.2),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 672, 88.2),
        ("NVIDIA GeForce RTX 4090", 1008, 165.2),
        ("AMD Instinct MI250X/MI250", 1638.4, 191.5),
        ("AMD Instinct MI300X VF", 5300, 1307.4),
    ],
)
def test_names_as_pytorch_prints_them(name: str, memory_gb_s: float, fp16: float) -> None:
    sheet = find_datasheet(name)
    assert sheet is not None
    assert sheet.memory_gb_s == memory_gb_s
    assert sheet.tflops["fp16"] == fp16


UNKNOWN = [
    "",
    "unnamed GPU",
    "NVIDIA A1000",
    "NVIDIA A10G",
    "NVIDIA L400",
    "NVIDIA H100 NVL",
    "NVIDIA A100",
    "NVIDIA A100-PG509-200",
    "NVIDIA GB200",
    "NVIDIA GeForce RTX 3090 Laptop GPU",
    "NVIDIA GeForce RTX 4090 D",
    "NVIDIA RTX 4000 Ada Generation",
]


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_device_stays_unknown(name: str) -> None:
    assert find_datasheet(name) is None


def test_every_entry_names_its_source_and_plausible_peaks() -> None:
    for sheet in datasheets():
        assert sheet.source
        assert re.compile(sheet.match)
        assert 100 < sheet.memory_gb_s < 20_000
        assert sheet.cache_mb is not None
        assert 1 < sheet.cache_mb <= 256
        assert sheet.tflops["fp32"] <= max(sheet.tflops.values())
        assert sheet.tflops.keys() <= set(PEAKS)
        # No matrix core is slower than the ordinary ones; half the bits are at least as fast.
        for wide, narrow in (("fp32", "tf32"), ("tf32", "fp16"), ("fp16", "fp8"), ("fp16", "int8"), ("fp32", "fp16")):
            if wide in sheet.tflops and narrow in sheet.tflops:
                assert sheet.tflops[narrow] >= sheet.tflops[wide], sheet.name


def test_no_entry_hides_another() -> None:
    """Each entry's own name is found by its own pattern, or by none; never by another's."""
    for sheet in datasheets():
        assert find_datasheet(sheet.name) in (sheet, None), sheet.name


def test_what_hardware_lacks_is_left_out() -> None:
    for sheet in datasheets():
        if sheet.architecture in ("Pascal", "Volta", "Turing"):
            assert not {"bf16", "tf32", "fp8"} & sheet.tflops.keys(), sheet.name


def test_what_was_measured_says_where() -> None:
    measured = [sheet for sheet in datasheets() if sheet.measured.memory_gb_s is not None]
    assert [sheet.name for sheet in measured] == ["NVIDIA T4"]
    for sheet in measured:
        assert sheet.measured.memory_gb_s is not None
        assert sheet.measured.memory_gb_s < sheet.memory_gb_s
        assert sheet.measured.memory_source
        assert sheet.measured.launch_source


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("T4", "NVIDIA T4"),
        ("l4", "NVIDIA L4"),
        ("Tesla T4", "NVIDIA T4"),
        ("RTX 3090", "NVIDIA GeForce RTX 3090"),
        ("H100 (SXM)", "NVIDIA H100 (SXM)"),
        ("NVIDIA H100 (PCIe)", "NVIDIA H100 (PCIe)"),
        ("MI300X", "AMD Instinct MI300X"),
    ],
)
def test_a_user_names_a_device(wanted: str, name: str) -> None:
    assert choose_datasheet(wanted, datasheets()).name == name


@pytest.mark.parametrize(
    ("wanted", "part"), [("H100", "NVIDIA H100 (SXM), NVIDIA H100 (PCIe)"), ("Z80", "T4"), ("", "T4"), ("(", "T4")]
)
def test_a_name_that_means_none_or_several_says_which_there_are(wanted: str, part: str) -> None:
    with pytest.raises(TracekitError) as error:
        choose_datasheet(wanted, datasheets())
    assert part in str(error.value)
    assert "--device-table" in str(error.value)


def test_ones_own_entries_come_first(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE + MINE.replace("My GPU", r"\bT4\b").replace("Mine (big)", "My T4"))
    sheets = load_datasheets(path)
    assert find_datasheet("My GPU 3", sheets) == sheets[0]
    assert find_datasheet("Tesla T4", sheets) == sheets[1]
    assert choose_datasheet("Mine", sheets).memory_gb_s == 1000
    assert sheets[2:] == datasheets() == load_datasheets(None)
    assert sheets[0].measured.memory_gb_s is None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no [[device]] entry"),
        ("[[device]", "not valid TOML"),
        ("device = 3", "no [[device]] entry"),
        ("device = [3]", "device 1"),
        (MINE.replace("memory_gb_s = 1000", ""), "memory_gb_s"),
        (MINE + "colour = 'red'", "colour"),
        (MINE.replace("1000", "-1"), "no number above 0"),
        (MINE.replace("1000", "nan"), "no number above 0"),
        (MINE.replace("1000", "'fast'"), "no number above 0"),
        (MINE.replace("fp32 = 50", "fp33 = 50"), "fp64, fp32"),
        (MINE.replace("{ fp32 = 50, fp16 = 200 }", "50"), "tflops"),
        (MINE.replace("'My GPU'", "'('"), "device entry"),
        (MINE.replace("'My GPU'", "''"), "empty text"),
        (MINE.replace('"the box it came in"', "7"), "empty text"),
        (MINE + "measured = { gap_ns = 0 }", "no number above 0"),
        (MINE + "measured = 7", "device entry"),
        (MINE.replace("{ fp32 = 50, fp16 = 200 }", "{ fp32 = true }"), "no number above 0"),
    ],
)  # fmt: skip
def test_a_bad_table_is_one_line_that_says_where(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(TracekitError) as error:
        load_datasheets(path)
    message = str(error.value)
    assert str(path) in message
    assert part in message
    assert "\n" not in message


def test_a_table_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(TracekitError, match="cannot be read"):
        load_datasheets(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(TracekitError, match="not UTF-8"):
        load_datasheets(tmp_path / "binary.toml")
