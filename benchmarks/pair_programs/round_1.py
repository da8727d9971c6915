"""The programs by which the rules were made."""

from __future__ import annotations

import functools
import itertools
import random
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .listed import AUTOCAST, CACHE, CHANNELS_LAST, COMPILE, FUSED, GRAPH, PINNED, REDUCE, SDPA, SYNC, TF32, WORKERS, Step
from .listed import program as listed_program
from .parts import (
    DEVICE,
    adamw,
    bert,
    blocks,
    captured,
    copied,
    gpt2,
    images,
    infer,
    llama,
    loaded,
    mlp,
    rounded,
    tokens,
    training,
    vision,
)

program = functools.partial(listed_program, made=1)


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
