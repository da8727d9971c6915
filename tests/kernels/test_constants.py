"""Does every number that Python and CUDA share stand in Python alone, and does the compiler get it from there?"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tracekit.kernels import compile as compiler
from tracekit.kernels import hopper, prefill
from tracekit.kernels.configuration import Configuration, declared
from tracekit.kernels.inspection import inspect
from tracekit.kernels.shape import Shape

ROOM = Path(compiler.__file__).parent
PYTHON, CUDA = sorted(ROOM.glob("*.py")), sorted([*ROOM.glob("*.cu"), *ROOM.glob("*.cuh")])
NUMBER = r"-?(?:0x[\da-f]+|\d+)(?:u|l|ull)?"
needs_nvrtc = pytest.mark.skipif(not compiler.available(), reason="needs cuda-core and NVRTC")


def same_name(name: str) -> str:
    """What `kMostLayers`, `MOST_LAYERS` and `_MOST_LAYERS` have in common."""
    return re.sub(r"^k(?=[A-Z])", "", name).replace("_", "").lower()


def numbers_of_python(text: str) -> set[str]:
    """The names of modules and classes that are given a whole number, or several at once."""
    found = set()
    for owner in (one for one in ast.walk(ast.parse(text)) if isinstance(one, ast.Module | ast.ClassDef)):
        for statement in owner.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                for target in targets:
                    found |= pairs(target, statement.value)
    return {same_name(name) for name in found}


def pairs(target: ast.expr, value: ast.expr) -> set[str]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return {name for one, its in zip(target.elts, value.elts, strict=True) for name in pairs(one, its)}
    try:
        is_number = isinstance(ast.literal_eval(value), int)
    except ValueError:
        return set()
    return {target.id} if is_number and isinstance(target, ast.Name) else set()


def numbers_of_cuda(text: str) -> set[str]:
    """The names of constants, macros and members of enumerations that are given a whole number."""
    text = re.sub(r"//.*", "", text)
    constants = re.findall(r"constexpr[\w\s:]*?\s(\w+\s*=[^;]*);", text)
    found = [name for one in constants for name in re.findall(rf"(\w+)\s*=\s*{NUMBER}\s*(?:,|$)", one, re.IGNORECASE)]
    found += re.findall(rf"#\s*define\s+(\w+)\s+{NUMBER}\s*$", text, re.MULTILINE | re.IGNORECASE)
    for members in re.findall(r"enum[^{;]*\{([^}]*)\}", text):
        found += re.findall(rf"(\w+)\s*=\s*{NUMBER}", members, re.IGNORECASE)
    return {same_name(name) for name in found}


def test_names_and_numbers_are_found_on_both_sides() -> None:
    python = "A_B, _C = 1, 0x2\nD: int = 3\nclass E:\n    F = 4\ndef g():\n    H = 5\nI = A_B + 1\nJ = 'text'\n"
    assert numbers_of_python(python) == {"ab", "c", "d", "f"}
    cuda = (
        "constexpr int kAb = 1, kC = kAb * 2, kD = 0x3u;  // kE = 5\n#define F 7\nstatic constexpr unsigned long long kG = 8;\n"
    )
    assert numbers_of_cuda(cuda + "enum H { kI = 3, kJ };\nconstexpr float kK = 1.5f;\n") == {"ab", "d", "f", "g", "i"}


def test_no_number_is_written_on_both_sides() -> None:
    python = {name: file.name for file in PYTHON for name in numbers_of_python(file.read_text(encoding="utf-8"))}
    cuda = {name: file.name for file in CUDA for name in numbers_of_cuda(file.read_text(encoding="utf-8"))}
    assert len(python) > 15
    assert len(cuda) > 5
    both = {f"{python[name]} and {cuda[name]}: {name}" for name in python.keys() & cuda.keys()}
    assert not both, "pass it as a macro instead"


@pytest.mark.parametrize("file", [*PYTHON, *CUDA], ids=lambda one: one.name)
def test_no_comment_says_that_a_number_is_written_twice(file: Path) -> None:
    assert not re.search(r"the same (number )?as in|keep in sync", file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", compiler.sources())
def test_a_source_uses_every_macro_that_it_gets_and_has_no_number_for_it(name: str) -> None:
    text = re.sub(r"//.*", "", compiler.source(name))
    given = {macro for one in declared() if one.source == name for macro in one.macros}
    assert given
    for macro in given:
        assert re.search(rf"\b{macro}\b", text), macro
        assert not re.search(rf"#\s*(define|ifndef|ifdef)\s+{macro}\b", text), macro
        assert same_name(macro) not in numbers_of_cuda(text), macro


def launched() -> list[tuple[Configuration, str, int]]:
    """Of each source a configuration, a kernel, and the threads of a block with which Python launches it."""
    shape = Shape(96, 32, 2)
    plan = prefill.SHARED
    return [
        (Configuration("hopper.cu", hopper.macros(256), hopper.CAPABILITY), hopper.KERNEL, hopper._THREADS),
        (Configuration("prefill.cu", prefill.macros(96)), "gpt2_bias_gelu", prefill._THREADS),
        (Configuration("flash.cu", plan.macros), "gpt2_flash_attention", prefill._GROUP_THREADS * plan.groups),
        (Configuration("decode.cu", shape.macros), "gpt2_attention", 32 * shape.attention_warps),
        (Configuration("decode.cu", shape.macros), "gpt2_norm_lm_head", 32 * shape.warps),
        (Configuration("decode.cu", shape.macros), "gpt2_fc2_residual", 32 * shape.wide_warps),
    ]


@needs_nvrtc
@pytest.mark.parametrize(("configuration", "kernel", "threads"), launched(), ids=lambda one: str(one)[:40])
def test_a_block_has_the_threads_that_it_is_compiled_for(configuration: Configuration, kernel: str, threads: int) -> None:
    (found,) = [one for one in inspect(configuration, (9, 0)) if one.name == kernel]
    assert found.taken.threads == threads
