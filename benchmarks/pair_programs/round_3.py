"""Programs that were written after the rules had been mended by round 2."""

from __future__ import annotations

import functools
import itertools
import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .listed import AUTOCAST, CACHE, CHANNELS_LAST, COMPILE, FUSED, GRAPH, PINNED, REDUCE, SDPA, SYNC, TF32, WORKERS, Step
from .listed import program as listed_program
from .parts import (
    DEVICE,
    Gates,
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

program = functools.partial(listed_program, made=3)


@program(GRAPH)
def lstm_cells_graph(after: bool) -> Step:
    cells = nn.ModuleList([nn.LSTMCell(256, 256) for _ in range(3)]).to(DEVICE, torch.float16)
    x = torch.randn(16, 4, 256, device=DEVICE, dtype=torch.float16)

    @torch.no_grad()
    def step() -> object:
        states = [(x[0] * 0, x[0] * 0) for _ in cells]
        for one in x:
            value = one
            for place, cell in enumerate(cells):
                states[place] = cell(value, states[place])
                value = states[place][0]
        return states

    return captured(step) if after else step


@program(GRAPH)
def convnext_graph(after: bool) -> Step:
    step = infer(vision("convnext_nano").half().to(memory_format=torch.channels_last), images(2).half())
    return captured(step) if after else step


@program(REDUCE)
def bert_reduce_overhead(after: bool) -> Step:
    model = bert(4).half()
    return infer(torch.compile(model, mode="reduce-overhead") if after else model, tokens(1, 64))


@program(AUTOCAST)
def vit_training_autocast(after: bool) -> Step:
    model, x = vision("vit_base_patch16_224"), images(48)
    return training(model, lambda: model(x).square().mean(), adamw(model), autocast=after)


@program(AUTOCAST)
def llama_training_autocast(after: bool) -> Step:
    model, ids = llama(4, 1536), tokens(4, 512)
    return training(model, lambda: model(ids, labels=ids).loss, adamw(model), autocast=after)


@program(TF32)
def mixer_training_tf32(after: bool) -> Step:
    model, x = vision("mixer_b16_224"), images(64)
    return rounded(training(model, lambda: model(x).square().mean(), adamw(model)), after)


@program(TF32)
def llama_inference_tf32(after: bool) -> Step:
    return rounded(infer(llama(6, 1536), tokens(4, 512)), after)


@program(CHANNELS_LAST)
def wide_resnet_inference_channels_last(after: bool) -> Step:
    layout = torch.channels_last if after else torch.contiguous_format
    model = vision("wide_resnet50_2").bfloat16().to(memory_format=layout)
    return infer(model, images(96).bfloat16().to(memory_format=layout))


@program(CHANNELS_LAST)
def resnet26_training_channels_last(after: bool) -> Step:
    layout = torch.channels_last if after else torch.contiguous_format
    model, x = vision("resnet26d").to(memory_format=layout), images(128).to(memory_format=layout)
    return training(model, lambda: model(x).square().mean(), adamw(model), autocast=True)


@program(SDPA)
def gpt2_training_sdpa(after: bool) -> Step:
    attention = "sdpa" if after else "eager"
    model = gpt2(6, 768, attention, vocab_size=8192, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0).bfloat16()
    ids = tokens(8, 1024)
    return training(model, lambda: model(ids, labels=ids).loss, adamw(model))


@program(SDPA)
def wide_blocks_inference_sdpa(after: bool) -> Step:
    model = blocks(4, 2048, after).bfloat16()
    return infer(model, torch.randn(4, 1024, 2048, device=DEVICE, dtype=torch.bfloat16))


@program(SYNC)
def sampling_inference_sync(after: bool) -> Step:
    model, head = mlp(1024, 4, torch.bfloat16), nn.Linear(1024, 4096).to(DEVICE, torch.bfloat16)
    embedding = nn.Embedding(4096, 1024).to(DEVICE, torch.bfloat16)
    first, told = tokens(1, 1, 4096).squeeze(1), list[object]()

    @torch.no_grad()
    def step() -> object:
        ids = first
        del told[:-100]
        for _ in range(24):
            ids = head(model(embedding(ids))).float().softmax(-1).argmax(-1)
            if not after:
                told.append(ids.item())
        return ids

    return step


@program(SYNC)
def metrics_training_sync(after: bool) -> Step:
    model, x = mlp(2048, 4, torch.bfloat16), torch.randn(4096, 2048, device=DEVICE, dtype=torch.bfloat16)
    optimizer, told = adamw(model), list[object]()

    def step() -> object:
        optimizer.zero_grad(set_to_none=True)
        del told[:-100]
        for part in x.chunk(8):
            loss = model(part).float().square().mean()
            loss.backward()
            told.append(loss.detach() if after else loss.item())
        optimizer.step()
        return None

    return step


@program(CACHE)
def convnet_inference_empty_cache(after: bool) -> Step:
    model = vision("resnet18").half().to(memory_format=torch.channels_last).eval()
    batches = itertools.cycle([images(24).half(), images(32).half(), images(40).half()])

    @torch.no_grad()
    def step() -> object:
        found = model(next(batches))
        if not after:
            torch.cuda.empty_cache()
        return found

    return step


class Crops(torch.utils.data.Dataset[Tensor]):
    """Images that Python crops, turns and normalises."""

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> Tensor:
        chosen = random.Random(index)
        x = torch.rand(3, 256, 256)
        top, left = chosen.randrange(96), chosen.randrange(96)
        x = x[:, top : top + 160, left : left + 160].rot90(chosen.randrange(4), (1, 2))
        x = functional.interpolate(x[None], 128, mode="bilinear")[0]
        return (x - x.mean((1, 2), keepdim=True)) / x.std((1, 2), keepdim=True)


@program(WORKERS)
def crops_training_workers(after: bool) -> Step:
    model = vision("resnet18").to(memory_format=torch.channels_last)
    held: list[Tensor] = []
    inner = training(model, lambda: model(held[0]).square().mean(), adamw(model), autocast=True)

    def train(batch: Tensor) -> object:
        held[:] = [batch]
        return inner()

    return loaded(Crops(), 48, 8 if after else 0, train)


@program(PINNED)
def video_inference_pinned(after: bool) -> Step:
    model = (
        nn.Sequential(nn.Conv3d(3, 16, 3, 2), nn.ReLU(), nn.Conv3d(16, 32, 3, 2), nn.ReLU()).to(DEVICE, torch.float16).eval()
    )
    return copied((8, 3, 16, 160, 160), after, torch.no_grad()(lambda batch: model(batch.half())))


@program(COMPILE)
def gates_training_compile(after: bool) -> Step:
    model, x = nn.Sequential(*(Gates(4096) for _ in range(6))).to(DEVICE), torch.randn(4096, 4096, device=DEVICE)
    used = torch.compile(model) if after else model
    return training(model, lambda: used(x).square().mean(), adamw(model))


@program(FUSED)
def steps_alone_adamw_fused(after: bool) -> Step:
    parameters = [nn.Parameter(torch.randn(1024, 1024, device=DEVICE)) for _ in range(80)]
    for one in parameters:
        one.grad = torch.randn_like(one)
    options: dict[str, Any] = {"fused": True} if after else {"foreach": True}
    return torch.optim.AdamW(parameters, lr=1e-4, **options).step


@program(FUSED)
def steps_alone_sgd_loop_fused(after: bool) -> Step:
    parameters = [nn.Parameter(torch.randn(512, 512, device=DEVICE)) for _ in range(150)]
    for one in parameters:
        one.grad = torch.randn_like(one)
    options: dict[str, Any] = {"fused": True} if after else {"foreach": False}
    return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, **options).step
