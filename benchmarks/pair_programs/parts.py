"""What are the programs made of: models, steps, data?"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .listed import Step

DEVICE = "cuda"


def mlp(width: int, layers: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Linear layers with GELU between them."""
    parts = [part for _ in range(layers) for part in (nn.Linear(width, width), nn.GELU())]
    return nn.Sequential(*parts).to(DEVICE, dtype)


def infer(model: nn.Module, *inputs: Tensor, **named: Tensor) -> Step:
    """A step of inference."""
    model.eval()

    @torch.no_grad()
    def step() -> object:
        return model(*inputs, **named)

    return step


def captured(step: Step) -> Step:
    """The step as one CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def replay(_owner: Step = step) -> object:  # the step owns the memory that the graph reads
        return graph.replay()

    return replay


def training(
    model: nn.Module,
    loss: Callable[[], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    autocast: bool = False,
    after_backward: Callable[[Tensor], object] = lambda _: None,
) -> Step:
    """A step of training."""
    model.train()

    def step() -> object:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.bfloat16) if autocast else nullcontext():
            value = loss()
        value.backward()
        after_backward(value)
        optimizer.step()
        return value

    return step


def adamw(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    """AdamW, fused unless asked for otherwise."""
    return torch.optim.AdamW(model.parameters(), lr=1e-4, **(options or {"fused": True}))


def gpt2(layers: int, width: int, attention: str = "sdpa", **more: Any) -> nn.Module:
    """A GPT-2 of transformers with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    heads = width // 64
    config = GPT2Config(n_layer=layers, n_embd=width, n_head=heads, attn_implementation=attention, use_cache=False, **more)
    return GPT2LMHeadModel(config).to(DEVICE)


def bert(layers: int, attention: str = "sdpa") -> nn.Module:
    """A BERT of transformers with random weights."""
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(BertConfig(num_hidden_layers=layers, attn_implementation=attention)).to(DEVICE)


def llama(layers: int, width: int) -> nn.Module:
    """A LLaMA of transformers with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=width * 3,
        num_hidden_layers=layers,
        num_attention_heads=width // 128,
        vocab_size=8192,
        use_cache=False,
    )
    return LlamaForCausalLM(config).to(DEVICE)


def vision(name: str, **options: Any) -> nn.Module:
    """A model of timm with random weights."""
    import timm

    model: nn.Module = timm.create_model(name, **options).to(DEVICE)
    return model


def images(batch: int, size: int = 224) -> Tensor:
    """Random images."""
    return torch.randn(batch, 3, size, size, device=DEVICE)


def tokens(batch: int, length: int, vocabulary: int = 8192) -> Tensor:
    """Random tokens."""
    return torch.randint(0, vocabulary, (batch, length), device=DEVICE)


class PlainAttention(nn.Module):
    """Causal attention written out: product, mask, softmax, product."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.qkv, self.out, self.heads, self.fused = nn.Linear(width, 3 * width), nn.Linear(width, width), heads, fused

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        shape = (batch, length, self.heads, width // self.heads)
        q, k, v = (part.view(shape).transpose(1, 2) for part in self.qkv(x).split(width, dim=2))
        if self.fused:
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = (q @ k.transpose(-2, -1)) * (width // self.heads) ** -0.5
            mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
            y = scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """A transformer block around an attention."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.attention = PlainAttention(width, heads, fused)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norms[0](x))
        return x + self.down(functional.gelu(self.up(self.norms[1](x))))


def blocks(count: int, width: int, fused: bool) -> nn.Module:
    """Transformer blocks."""
    return nn.Sequential(*(Block(width, width // 64, fused) for _ in range(count))).to(DEVICE)


class Gates(nn.Module):
    """A root-mean-square norm and a gated activation, written as formulas."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.scale
        return x + y * torch.sigmoid(1.702 * y) * torch.tanh(y)


def rounded(step: Step, tf32: bool) -> Step:
    """The step with its FP32 products in TF32, or not."""

    def own() -> object:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        return step()

    return own


def loaded(data: torch.utils.data.Dataset[Tensor], batch: int, workers: int, train: Callable[[Tensor], object]) -> Step:
    """A step that fetches a batch and trains on it."""
    options: dict[str, Any] = {"persistent_workers": True, "prefetch_factor": 4} if workers else {}
    batches = iter(torch.utils.data.DataLoader(data, batch, num_workers=workers, pin_memory=True, **options))
    return lambda: train(next(batches).to(DEVICE, non_blocking=True))


def copied(shape: tuple[int, ...], after: bool, use: Callable[[Tensor], object]) -> Step:
    """A step that copies a batch from the host and uses it."""
    source = [torch.randn(shape).pin_memory() if after else torch.randn(shape) for _ in range(4)]
    turns = itertools.cycle(source)
    return lambda: use(next(turns).to(DEVICE, non_blocking=after))
