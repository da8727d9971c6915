"""In which ways can the same model be run? A variant is a few lines of difference; only running one imports torch."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.errors import TracekitError

from .options import Sampling

if TYPE_CHECKING:
    from torch import Tensor

    from tracekit.manifest import Device

    from .fused import Decode
    from .gpt2 import GPT2
    from .workload import Next, Step

_AMPERE = (8, 0)
_TURING = (7, 5)
_VOLTA = (7, 0)
_COMPILER = "compute capability 7.0, or a C++ compiler on a CPU"


@dataclass(frozen=True)
class Demand:
    """What a step is to be built for: how tokens are chosen (None: greedily), and whether each call is one token longer."""

    sampling: Sampling | None = None
    growing: bool = False


@dataclass(frozen=True)
class Variant:
    """One way to run the model.

    `dtype` is torch's name for the dtype of weights, cache and arithmetic. `build` turns a model, on its device and with
    its cache, into a step; it may change the model's modules, which are its own. `needs` says in words what `obstacle`
    finds missing on a device; `doubt` is what a reader must know about running there. `captures` is set where the steps
    are CUDA graphs, so that each must have the shape of the last one. `annotatable` steps are run by Python, layer by
    layer. `weights` is the dtype that a decode reads weights in, where it is another than `dtype`.
    """

    name: str
    summary: str
    dtype: str
    build: Callable[[GPT2, Demand], Step]
    needs: str = "any device"
    obstacle: Callable[[Device], str | None] = lambda device: None
    doubt: Callable[[Device], str | None] = lambda device: None
    captures: bool = False
    annotatable: bool = False
    weights: str | None = None

    def unsupported(self, device: Device) -> str | None:
        """Why the variant cannot run on a device, and None where it can."""
        return self.obstacle(device)

    def unsuitable(self, workload: str) -> str | None:
        """Why the variant makes no sense for a workload, and None where it does."""
        if self.captures and workload == "recompute":
            return f"captures steps of fixed shape, and {workload} has none"
        return None


def eager(model: GPT2, demand: Demand) -> Step:
    """The step as PyTorch runs it by itself."""
    from .workload import Next

    temperature, top_k = _sampling(demand)

    def step(tokens: Tensor, positions: Tensor) -> Next:
        logits = model.head(model.hidden(tokens, positions)[:, -1:])
        return Next(model.choose(logits, temperature, top_k), positions[-1:] + 1, logits)

    return step


def compiled(model: GPT2, demand: Demand) -> Step:
    """The step through torch.compile's default mode; prefill and decode are compiled apart, each for its own shape."""
    return _compile(eager(model, demand), demand, {})


def graphs(model: GPT2, demand: Demand) -> Step:
    """The eager step, each prefill and each decode one launch of a CUDA graph."""
    from .graphs import CapturedStep

    return CapturedStep(eager(model, demand))


def compiled_graphs(model: GPT2, demand: Demand) -> Step:
    """The compiled step at its fastest, each prefill and each decode one launch of a CUDA graph.

    Inductor turns a product of one row into a kernel of its own, fused with what surrounds it, only if the bias is added
    apart; and it searches that kernel's best shape only if told so.
    """
    from .graphs import CapturedStep

    _add_biases_apart(model)
    return CapturedStep(_compile(eager(model, demand), demand, {"coordinate_descent_tuning": True}))


def fused(model: GPT2, demand: Demand) -> Step:
    """Our own kernels, each prefill and each decode one launch of a CUDA graph: a decode is one kernel, or five a layer."""
    from .fused import fastest

    return _fused(model, demand, fastest)


def fused_layers(model: GPT2, demand: Demand) -> Step:
    """The same, but a decode is always five kernels a layer: what a T4 runs, and what a trace can tell the layers of."""
    from .fused import by_layers

    return _fused(model, demand, by_layers)


def fused_int8(model: GPT2, demand: Demand) -> Step:
    """The same, but a decode reads the linear layers and the LM head in INT8; the prefill reads them in FP16."""
    from .fused import by_layers_int8

    return _fused(model, demand, by_layers_int8)


def _fused(model: GPT2, demand: Demand, build: Callable[[GPT2], Decode]) -> Step:
    from .fused import fused_step
    from .graphs import CapturedStep

    return CapturedStep(fused_step(model, eager(model, demand), *_sampling(demand), build))


def _sampling(demand: Demand) -> tuple[float, int | None]:
    return (0.0, None) if demand.sampling is None else (demand.sampling.temperature, demand.sampling.top_k)


def _compile(step: Step, demand: Demand, options: Mapping[str, bool]) -> Step:
    import torch

    # "TensorFloat32 is available but not enabled": that is what the collection was asked for.
    warnings.filterwarnings("ignore", message=".*TensorFloat32", category=UserWarning)
    return torch.compile(step, fullgraph=True, dynamic=demand.growing, options=dict(options) or None)


def _add_biases_apart(model: GPT2) -> None:
    """Replace every linear layer of the model by one over the same weights whose product and sum are two operators."""
    from torch import nn

    class ProductAndSum(nn.Linear):
        def __init__(self, linear: nn.Linear) -> None:
            super().__init__(linear.in_features, linear.out_features, device="meta")
            self.weight, self.bias = linear.weight, linear.bias

        def forward(self, x: Tensor) -> Tensor:
            product: Tensor = x @ self.weight.t()
            return product + self.bias

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, ProductAndSum(child))


def _no_cuda(device: Device) -> str | None:
    return None if device.kind == "cuda" else "CUDA graphs need a CUDA device"


def _no_fused_kernels(device: Device) -> str | None:
    if device.kind != "cuda":
        return "its kernels need a CUDA device"
    capability = _capability(device)
    if capability < _TURING:
        return f"its kernels need compute capability 7.5, this is {_dotted(capability)}"
    # Looked for by the outer name first: asking for a module inside a package that is missing raises.
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.core") is None:
        return "its kernels need cuda-core: pip install 'torch-tracekit[cuda]'"
    return None


def _no_compiler(device: Device) -> str | None:
    if device.kind == "cuda":
        capability = _capability(device)
        return None if capability >= _VOLTA else f"Triton needs compute capability 7.0, this is {_dotted(capability)}"
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler.split()[0]) is None:
        return f"torch.compile needs a C++ compiler on a CPU, and there is no {compiler} (install g++, or name one in CXX)"
    return None


def _emulated_bf16(device: Device) -> str | None:
    if device.kind == "cuda" and _capability(device) < _AMPERE:
        return f"BF16 is emulated at compute capability {_dotted(_capability(device))}: expect it to be slow"
    return None


def _capability(device: Device) -> tuple[int, int]:
    major, _, minor = (device.compute_capability or "0.0").partition(".")
    return int(major), int(minor)


def _dotted(capability: tuple[int, int]) -> str:
    return "{}.{}".format(*capability)


BASELINE = Variant("baseline", "FP32, eager", "float32", eager, annotatable=True)

VARIANTS: tuple[Variant, ...] = (
    BASELINE,
    Variant("fp16", "FP16, eager", "float16", eager, annotatable=True),
    Variant(
        "bf16",
        "BF16, eager",
        "bfloat16",
        eager,
        "any device; emulated below compute capability 8.0",
        doubt=_emulated_bf16,
        annotatable=True,
    ),
    Variant("compiled", "FP32, torch.compile", "float32", compiled, _COMPILER, obstacle=_no_compiler),
    Variant("fp16-compiled", "FP16, torch.compile", "float16", compiled, _COMPILER, obstacle=_no_compiler),
    Variant(
        "graphs",
        "FP16, each step in one CUDA graph, no compiler",
        "float16",
        graphs,
        "CUDA",
        obstacle=_no_cuda,
        captures=True,
    ),
    Variant(
        "fp16-compiled-graphs",
        "FP16, torch.compile tuned, each step in one CUDA graph",
        "float16",
        compiled_graphs,
        "CUDA, compute capability 7.0",
        obstacle=lambda device: _no_cuda(device) or _no_compiler(device),
        captures=True,
    ),
    Variant(
        "fused",
        "FP16, prefill and decode by our own fused kernels, each step in one CUDA graph",
        "float16",
        fused,
        "CUDA, compute capability 7.5, and the extra `cuda`",
        obstacle=_no_fused_kernels,
        captures=True,
    ),
    Variant(
        "fused-layers",
        "as fused, always five kernels a layer",
        "float16",
        fused_layers,
        "CUDA, compute capability 7.5, and the extra `cuda`",
        obstacle=_no_fused_kernels,
        captures=True,
    ),
    Variant(
        "fused-int8",
        "as fused-layers, with weights in INT8, a scale for each output",
        "float16",
        fused_int8,
        "CUDA, compute capability 7.5, and the extra `cuda`",
        obstacle=_no_fused_kernels,
        captures=True,
        weights="int8",
    ),
)


def find_variant(name: str) -> Variant:
    """The variant of that name. Raises TracekitError, which lists all names, if there is none."""
    for variant in VARIANTS:
        if variant.name == name:
            return variant
    names = ", ".join(variant.name for variant in VARIANTS)
    raise TracekitError(f"no such variant as {name!r}", where="--variant", mend=f"use one of {names}")
