"""Programs before and after one change each, for `pairs.py`: models of timm and transformers, random weights, and our own.

A program is a function that returns its step. `after` tells whether the change is made.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Step = Callable[[], object]
DEVICE = "cuda"

GRAPH, REDUCE, COMPILE = "one CUDA graph", "torch.compile, reduce-overhead", "torch.compile"
AUTOCAST, TF32, CHANNELS_LAST = "bfloat16 autocast", "TF32", "channels_last"
SDPA, SYNC, CACHE = "scaled_dot_product_attention", "no .item() in the loop", "no empty_cache() in the loop"
WORKERS, PINNED, FUSED = "num_workers=8", "pinned memory, non_blocking", "fused=True"


@dataclass(frozen=True)
class Program:
    """A program and the change that is made to it. `made` is the round in which it was written (see docs/predictions.md)."""

    change: str
    build: Callable[[bool], Step]
    made: int


PROGRAMS: dict[str, Program] = {}


def program(change: str, made: int = 1) -> Callable[[Callable[[bool], Step]], Callable[[bool], Step]]:
    """Put a program on the list under its function's name."""

    def listed(build: Callable[[bool], Step]) -> Callable[[bool], Step]:
        PROGRAMS[build.__name__] = Program(change, build, made)
        return build

    return listed


# --- Parts ------------------------------------------------------------------------------------------------------------------


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


# --- One launch a step ------------------------------------------------------------------------------------------------------


@program(GRAPH)
def vit_tiny_graph(after: bool) -> Step:
    step = infer(vision("vit_tiny_patch16_224").half(), images(1).half())
    return captured(step) if after else step


@program(GRAPH)
def gru_cells_graph(after: bool) -> Step:
    cell, head = nn.GRUCell(512, 512).to(DEVICE), nn.Linear(512, 64).to(DEVICE)
    x, h = torch.randn(24, 8, 512, device=DEVICE), torch.zeros(8, 512, device=DEVICE)

    @torch.no_grad()
    def step() -> object:
        state = h
        for one in x:
            state = cell(one, state)
        return head(state)

    return captured(step) if after else step


@program(GRAPH)
def gpt2_prefill_graph(after: bool) -> Step:
    model, ids = gpt2(12, 768).half(), tokens(1, 64)
    step = infer(model, ids)
    return captured(step) if after else step


@program(REDUCE)
def encoder_reduce_overhead(after: bool) -> Step:
    layer = nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True, norm_first=True)
    model = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False).to(DEVICE, torch.float16)
    x = torch.randn(2, 64, 512, device=DEVICE, dtype=torch.float16)
    return infer(torch.compile(model, mode="reduce-overhead") if after else model, x)


@program(REDUCE)
def resnet18_reduce_overhead(after: bool) -> Step:
    model = vision("resnet18").half()
    return infer(torch.compile(model, mode="reduce-overhead") if after else model, images(1).half())


# --- Precision --------------------------------------------------------------------------------------------------------------


@program(AUTOCAST)
def gpt2_training_autocast(after: bool) -> Step:
    model, ids = gpt2(6, 768, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0), tokens(8, 512)
    return training(model, lambda: model(ids, labels=ids).loss, adamw(model), autocast=after)


@program(AUTOCAST)
def vit_base_inference_autocast(after: bool) -> Step:
    model, x = vision("vit_base_patch16_224").eval(), images(64)

    @torch.no_grad()
    def step() -> object:
        with torch.autocast("cuda", dtype=torch.bfloat16) if after else nullcontext():
            return model(x)

    return step


@program(AUTOCAST)
def mlp_training_autocast(after: bool) -> Step:
    model, x = mlp(4096, 6), torch.randn(4096, 4096, device=DEVICE)
    return training(model, lambda: model(x).square().mean(), adamw(model), autocast=after)


def rounded(step: Step, tf32: bool) -> Step:
    """The step with its FP32 products in TF32, or not."""

    def own() -> object:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        return step()

    return own


@program(TF32)
def bert_training_tf32(after: bool) -> Step:
    model, ids = bert(4), tokens(16, 128)
    return rounded(training(model, lambda: model(ids, labels=ids).loss, adamw(model)), after)


@program(TF32)
def mlp_inference_tf32(after: bool) -> Step:
    return rounded(infer(mlp(2048, 12), torch.randn(2048, 2048, device=DEVICE)), after)


# --- Convolutions -----------------------------------------------------------------------------------------------------------


@program(CHANNELS_LAST)
def resnet50_training_channels_last(after: bool) -> Step:
    layout = torch.channels_last if after else torch.contiguous_format
    model, x = vision("resnet50").to(memory_format=layout), images(192).to(memory_format=layout)
    labels = torch.randint(0, 1000, (192,), device=DEVICE)
    return training(model, lambda: functional.cross_entropy(model(x), labels), adamw(model), autocast=True)


@program(CHANNELS_LAST)
def regnet_inference_channels_last(after: bool) -> Step:
    layout = torch.channels_last if after else torch.contiguous_format
    model = vision("resnext50_32x4d").half().to(memory_format=layout)
    return infer(model, images(128).half().to(memory_format=layout))


@program(CHANNELS_LAST)
def vgg_inference_channels_last(after: bool) -> Step:
    layout = torch.channels_last if after else torch.contiguous_format
    model = vision("vgg16_bn").half().to(memory_format=layout)
    return infer(model, images(64).half().to(memory_format=layout))


# --- Attention --------------------------------------------------------------------------------------------------------------


@program(SDPA)
def blocks_training_sdpa(after: bool) -> Step:
    model = blocks(6, 1024, after).bfloat16()
    x = torch.randn(4, 1024, 1024, device=DEVICE, dtype=torch.bfloat16)
    return training(model, lambda: model(x).float().square().mean(), adamw(model))


@program(SDPA)
def gpt2_inference_sdpa(after: bool) -> Step:
    return infer(gpt2(12, 768, "sdpa" if after else "eager").bfloat16(), tokens(8, 1024))


# --- Waits ------------------------------------------------------------------------------------------------------------------


@program(SYNC)
def logging_training_sync(after: bool) -> Step:
    model, x = mlp(1024, 8), torch.randn(512, 1024, device=DEVICE)
    seen: list[object] = []

    def log(value: Tensor) -> None:
        if after:
            seen.append(value.detach())
        else:
            seen.append(value.item())
            seen.extend(parameter.grad.norm().item() for parameter in model.parameters() if parameter.grad is not None)
        del seen[:-64]

    return training(model, lambda: model(x).square().mean(), adamw(model), after_backward=log)


@program(SYNC)
def branching_inference_sync(after: bool) -> Step:
    layers = [mlp(1024, 3, torch.bfloat16) for _ in range(12)]
    x = torch.randn(256, 1024, device=DEVICE, dtype=torch.bfloat16)

    @torch.no_grad()
    def step() -> object:
        y = x
        for layer in layers:
            y = layer(y)
            if not after and y.abs().max().item() > 1e6:
                y = y.clamp(-1e6, 1e6)
        return y

    return step


@program(SYNC)
def decoding_inference_sync(after: bool) -> Step:
    model, head = mlp(2048, 6, torch.bfloat16), nn.Linear(2048, 8192).to(DEVICE, torch.bfloat16)
    embedding = nn.Embedding(8192, 2048).to(DEVICE, torch.bfloat16)
    first = tokens(16, 1).squeeze(1)

    @torch.no_grad()
    def step() -> object:
        ids = first
        for _ in range(16):
            ids = head(model(embedding(ids))).argmax(-1)
            if not after and (ids == 0).all():
                break
        return ids

    return step


# --- Memory -----------------------------------------------------------------------------------------------------------------


@program(CACHE)
def blocks_training_empty_cache(after: bool) -> Step:
    model = blocks(4, 1024, True).bfloat16()
    x = torch.randn(8, 1024, 1024, device=DEVICE, dtype=torch.bfloat16)
    inner = training(model, lambda: model(x).float().square().mean(), adamw(model))

    def step() -> object:
        found = inner()
        if not after:
            torch.cuda.empty_cache()
        return found

    return step


@program(CACHE)
def bert_inference_empty_cache(after: bool) -> Step:
    model, batches = bert(6).bfloat16().eval(), itertools.cycle([tokens(32, 128), tokens(32, 192), tokens(32, 256)])

    @torch.no_grad()
    def step() -> object:
        found = model(next(batches)).logits.argmax(-1)
        if not after:
            torch.cuda.empty_cache()
        return found

    return step


# --- Data -------------------------------------------------------------------------------------------------------------------


class Augmented(torch.utils.data.Dataset[Tensor]):
    """Images that Python changes one by one."""

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> Tensor:
        x = torch.rand(3, 160, 160)
        for _ in range(4):
            x = functional.avg_pool2d(x[None], 3, 1, 1)[0].flip(-1)
        return x.clamp(0, 1)


class Words(torch.utils.data.Dataset[Tensor]):
    """Texts that Python turns into numbers, word by word."""

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> Tensor:
        chosen = random.Random(index)
        text = " ".join(f"w{chosen.randrange(8192)}" for _ in range(512))
        return torch.tensor([int(word[1:]) for word in text.split()])


def loaded(data: torch.utils.data.Dataset[Tensor], batch: int, workers: int, train: Callable[[Tensor], object]) -> Step:
    """A step that fetches a batch and trains on it."""
    options: dict[str, Any] = {"persistent_workers": True, "prefetch_factor": 4} if workers else {}
    batches = iter(torch.utils.data.DataLoader(data, batch, num_workers=workers, pin_memory=True, **options))
    return lambda: train(next(batches).to(DEVICE, non_blocking=True))


@program(WORKERS)
def images_training_workers(after: bool) -> Step:
    model = vision("resnet18").to(memory_format=torch.channels_last)
    held: list[Tensor] = []
    inner = training(model, lambda: model(held[0]).square().mean(), adamw(model), autocast=True)

    def train(batch: Tensor) -> object:
        held[:] = [batch]
        return inner()

    return loaded(Augmented(), 32, 8 if after else 0, train)


@program(WORKERS)
def words_training_workers(after: bool) -> Step:
    model = gpt2(2, 256, vocab_size=8192, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    held: list[Tensor] = []
    inner = training(model, lambda: model(held[0], labels=held[0]).loss, adamw(model), autocast=True)

    def train(batch: Tensor) -> object:
        held[:] = [batch]
        return inner()

    return loaded(Words(), 32, 8 if after else 0, train)


def copied(shape: tuple[int, ...], after: bool, use: Callable[[Tensor], object]) -> Step:
    """A step that copies a batch from the host and uses it."""
    source = [torch.randn(shape).pin_memory() if after else torch.randn(shape) for _ in range(4)]
    turns = itertools.cycle(source)
    return lambda: use(next(turns).to(DEVICE, non_blocking=after))


@program(PINNED)
def mlp_training_pinned(after: bool) -> Step:
    model = mlp(1024, 6, torch.bfloat16)
    held: list[Tensor] = []
    inner = training(model, lambda: model(held[0]).float().square().mean(), adamw(model))

    def train(batch: Tensor) -> object:
        held[:] = [batch.bfloat16()]
        return inner()

    return copied((16384, 1024), after, train)


@program(PINNED)
def convnet_inference_pinned(after: bool) -> Step:
    model = vision("resnet18").half().to(memory_format=torch.channels_last).eval()
    use = torch.no_grad()(lambda batch: model(batch.half().to(memory_format=torch.channels_last)))
    return copied((128, 3, 224, 224), after, use)


# --- Fusing -----------------------------------------------------------------------------------------------------------------


class Gated(nn.Module):
    """A gate, a norm and an activation, written as formulas."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        y = (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5)
        y = y * self.scale + self.shift
        return x + 0.5 * y * (1 + torch.tanh(0.79788 * (y + 0.044715 * y * y * y)))


@program(COMPILE)
def gates_inference_compile(after: bool) -> Step:
    model = nn.Sequential(*(Gated(4096) for _ in range(6))).to(DEVICE)
    return infer(torch.compile(model) if after else model, torch.randn(8192, 4096, device=DEVICE))


@program(COMPILE)
def llama_training_compile(after: bool) -> Step:
    model, ids = llama(4, 1024), tokens(4, 1024)
    used = torch.compile(model) if after else model
    return training(model, lambda: used(ids, labels=ids).loss, adamw(model), autocast=True)


@program(FUSED)
def gpt2_adamw_fused(after: bool) -> Step:
    model, ids = gpt2(12, 768, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0), tokens(1, 128)
    options: dict[str, Any] = {"fused": True} if after else {"foreach": True}
    return training(model, lambda: model(ids, labels=ids).loss, adamw(model, **options), autocast=True)


@program(FUSED)
def vit_adam_loop_fused(after: bool) -> Step:
    model, x = vision("vit_small_patch16_224"), images(8)
    options: dict[str, Any] = {"fused": True} if after else {"foreach": False}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, **options)
    return training(model, lambda: model(x).square().mean(), optimizer, autocast=True)


@program(FUSED)
def resnet_sgd_fused(after: bool) -> Step:
    model, x = vision("resnet34").to(memory_format=torch.channels_last), images(16)
    options: dict[str, Any] = {"fused": True} if after else {"foreach": True}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, **options)
    return training(model, lambda: model(x).square().mean(), optimizer, autocast=True)


# --- Round 2: written after the rules ---------------------------------------------------------------------------------------


@program(GRAPH, made=2)
def deit_small_graph(after: bool) -> Step:
    step = infer(vision("deit_small_patch16_224").half(), images(2).half())
    return captured(step) if after else step


@program(GRAPH, made=2)
def mixer_graph(after: bool) -> Step:
    step = infer(vision("mixer_s32_224").bfloat16(), images(1).bfloat16())
    return captured(step) if after else step


@program(REDUCE, made=2)
def efficientnet_reduce_overhead(after: bool) -> Step:
    model = vision("efficientnet_b0").half()
    return infer(torch.compile(model, mode="reduce-overhead") if after else model, images(1).half())


@program(AUTOCAST, made=2)
def bert_training_autocast(after: bool) -> Step:
    model, ids = bert(6), tokens(32, 256)
    return training(model, lambda: model(ids, labels=ids).loss, adamw(model), autocast=after)


@program(AUTOCAST, made=2)
def mixer_inference_autocast(after: bool) -> Step:
    model, x = vision("mixer_b16_224").eval(), images(128)

    @torch.no_grad()
    def step() -> object:
        with torch.autocast("cuda", dtype=torch.bfloat16) if after else nullcontext():
            return model(x)

    return step


@program(TF32, made=2)
def gpt2_training_tf32(after: bool) -> Step:
    model, ids = gpt2(4, 1024, vocab_size=8192, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0), tokens(8, 512)
    return rounded(training(model, lambda: model(ids, labels=ids).loss, adamw(model)), after)


@program(TF32, made=2)
def vit_small_inference_tf32(after: bool) -> Step:
    return rounded(infer(vision("vit_small_patch16_224"), images(128)), after)


@program(CHANNELS_LAST, made=2)
def resnet34_training_channels_last(after: bool) -> Step:
    layout = torch.channels_last if after else torch.contiguous_format
    model, x = vision("resnet34").to(memory_format=layout), images(256).to(memory_format=layout)
    return training(model, lambda: model(x).square().mean(), adamw(model), autocast=True)


@program(CHANNELS_LAST, made=2)
def densenet_inference_channels_last(after: bool) -> Step:
    layout = torch.channels_last if after else torch.contiguous_format
    model = vision("densenet121").half().to(memory_format=layout)
    return infer(model, images(128).half().to(memory_format=layout))


@program(SDPA, made=2)
def bert_inference_sdpa(after: bool) -> Step:
    return infer(bert(8, "sdpa" if after else "eager").bfloat16(), tokens(16, 512))


@program(SDPA, made=2)
def blocks_inference_sdpa(after: bool) -> Step:
    model = blocks(6, 768, after).half()
    return infer(model, torch.randn(2, 2048, 768, device=DEVICE, dtype=torch.float16))


@program(SYNC, made=2)
def clipped_training_sync(after: bool) -> Step:
    model, x = mlp(768, 12), torch.randn(256, 768, device=DEVICE)
    told: list[object] = []

    def watch(value: Tensor) -> None:
        gradients = [] if after else [one.grad for one in model.parameters() if one.grad is not None]
        told.extend("a gradient is not finite" for gradient in gradients if not torch.isfinite(gradient).all())

    return training(model, lambda: model(x).square().mean(), adamw(model), after_backward=watch)


@program(SYNC, made=2)
def statistics_inference_sync(after: bool) -> Step:
    layers = [mlp(4096, 1, torch.bfloat16) for _ in range(10)]
    x = torch.randn(512, 4096, device=DEVICE, dtype=torch.bfloat16)
    told: list[object] = []

    @torch.no_grad()
    def step() -> object:
        y = x
        del told[:-100]
        for layer in layers:
            y = layer(y)
            if not after:
                told.append(y.norm().cpu())
        return y

    return step


@program(CACHE, made=2)
def vit_training_empty_cache(after: bool) -> Step:
    model, x = vision("vit_small_patch16_224"), images(64)
    inner = training(model, lambda: model(x).square().mean(), adamw(model), autocast=True)

    def step() -> object:
        found = inner()
        if not after:
            torch.cuda.empty_cache()
        return found

    return step


@program(CACHE, made=2)
def gpt2_inference_empty_cache(after: bool) -> Step:
    model, batches = gpt2(6, 1024, vocab_size=8192).bfloat16().eval(), itertools.cycle([tokens(16, 256), tokens(16, 384)])

    @torch.no_grad()
    def step() -> object:
        found = model(next(batches)).logits.argmax(-1)
        if not after:
            torch.cuda.empty_cache()
        return found

    return step


class Sounds(torch.utils.data.Dataset[Tensor]):
    """Waves that Python turns into spectra."""

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> Tensor:
        wave = torch.randn(16_000)
        return torch.stft(wave, 400, 160, window=torch.hann_window(400), return_complex=True).abs().clamp_min(1e-5).log()


@program(WORKERS, made=2)
def sounds_training_workers(after: bool) -> Step:
    model = nn.Sequential(nn.Linear(101, 1024), nn.GELU(), nn.Linear(1024, 1024), nn.GELU(), nn.Linear(1024, 64)).to(DEVICE)
    held: list[Tensor] = []
    inner = training(model, lambda: model(held[0]).square().mean(), adamw(model), autocast=True)

    def train(batch: Tensor) -> object:
        held[:] = [batch]
        return inner()

    return loaded(Sounds(), 48, 8 if after else 0, train)


@program(PINNED, made=2)
def vit_inference_pinned(after: bool) -> Step:
    model = vision("vit_small_patch16_224").half().eval()
    return copied((96, 3, 224, 224), after, torch.no_grad()(lambda batch: model(batch.half())))


@program(PINNED, made=2)
def features_training_pinned(after: bool) -> Step:
    model = mlp(2048, 4, torch.bfloat16)
    held: list[Tensor] = []
    inner = training(model, lambda: model(held[0]).float().square().mean(), adamw(model))

    def train(batch: Tensor) -> object:
        held[:] = [batch.bfloat16()]
        return inner()

    return copied((4096, 2048), after, train)


class Gates(nn.Module):
    """A root-mean-square norm and a gated activation, written as formulas."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.scale
        return x + y * torch.sigmoid(1.702 * y) * torch.tanh(y)


@program(COMPILE, made=2)
def norms_inference_compile(after: bool) -> Step:
    model = nn.Sequential(*(Gates(8192) for _ in range(8))).to(DEVICE, torch.bfloat16)
    return infer(torch.compile(model) if after else model, torch.randn(4096, 8192, device=DEVICE, dtype=torch.bfloat16))


@program(COMPILE, made=2)
def llama_inference_compile(after: bool) -> Step:
    model = llama(6, 1024).bfloat16()
    return infer(torch.compile(model) if after else model, tokens(1, 128))


@program(FUSED, made=2)
def narrow_adamw_fused(after: bool) -> Step:
    model, x = mlp(256, 96), torch.randn(32, 256, device=DEVICE)
    options: dict[str, Any] = {"fused": True} if after else {"foreach": True}
    return training(model, lambda: model(x).square().mean(), adamw(model, **options))


@program(FUSED, made=2)
def wide_adam_loop_fused(after: bool) -> Step:
    model, x = mlp(2048, 24), torch.randn(64, 2048, device=DEVICE)
    options: dict[str, Any] = {"fused": True} if after else {"foreach": False}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, **options)
    return training(model, lambda: model(x).square().mean(), optimizer)


@program(FUSED, made=2)
def wide_sgd_loop_fused(after: bool) -> Step:
    model, x = mlp(1024, 48), torch.randn(64, 1024, device=DEVICE)
    options: dict[str, Any] = {"fused": True} if after else {"foreach": False}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, **options)
    return training(model, lambda: model(x).square().mean(), optimizer)


def chosen(names: list[str]) -> Iterator[tuple[str, Program]]:
    """The programs of these names; all of them if there are none."""
    listed: Mapping[str, Program] = PROGRAMS
    yield from ((name, listed[name]) for name in (names or listed))
