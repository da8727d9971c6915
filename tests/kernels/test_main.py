"""Does `python -m tracekit.kernels` tell what fits, and say in one line what it cannot tell?"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tracekit.kernels import __main__ as command
from tracekit.kernels import compile as compiler
from tracekit.kernels.configuration import declared
from tracekit.kernels.inspection import Inspected, inspect

needs_nvrtc = pytest.mark.skipif(not compiler.available(), reason="needs cuda-core and NVRTC")
SMALL = ("decode.cu", "WIDTH=64", "BATCH=1")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["kernels", *arguments])
    return command.main()


@needs_nvrtc
@pytest.mark.parametrize(("architecture", "warps"), [("sm_75", 32), ("sm_86", 48), ("sm_90", 64)])
def test_a_line_a_kernel(architecture: str, warps: int, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert run(monkeypatch, architecture, *SMALL) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert f"room for {warps} warps" in lines[1]
    row = next(line.split() for line in lines if line.startswith("gpt2_argmax"))
    assert row[1] == "32"
    assert row[5].endswith(f"/{warps}")
    shown = {line.split()[0] for line in lines if line.startswith("gpt2_")}
    (one,) = [one for one in declared() if set(SMALL) <= set(str(one).split())]
    assert shown == {kernel.name for kernel in inspect(one, (7, 5))}


@needs_nvrtc
def test_a_problem_is_shown_and_fails(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def spilling(*arguments) -> tuple[Inspected, ...]:
        first = inspect(*arguments)[0]
        return (dataclasses.replace(first, taken=dataclasses.replace(first.taken, spilled_bytes=8, stack_bytes=16)),)

    monkeypatch.setattr(command, "inspect", spilling)
    assert run(monkeypatch, "sm_75", *SMALL) == 1
    assert "  ! spills 8 bytes a thread and has a stack of 16\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("T4",), "tracekit: T4: is no architecture; name one such as sm_75\n"),
        (("sm_61",), "tracekit: the limits of compute capability 6.1 are not known; known are 7.5, 8.0, 8.6, 8.9, 9.0\n"),
        (("sm_75", "WIDTH=65"), "tracekit: WIDTH=65: no configuration is like this; leave one of them out\n"),
    ],
)
def test_what_it_cannot_tell(arguments: tuple[str, ...], reason: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err == reason


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert run(monkeypatch, "sm_75", *SMALL) == 2
    assert "torch-tracekit[cuda]" in capsys.readouterr().err
