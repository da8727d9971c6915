"""A decode step as one kernel: what each block is given, and on a device its results beside the model's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from launches import parameters  # noqa: E402
from lively import lively_state  # noqa: E402
from peculiar import (  # noqa: E402
    NAN,
    check_choice,
    head_that_yields,
    logits_that_round_alike,
    peculiar_logits,
)

from tracekit.collect.fused import in_fp16, model_tensors  # noqa: E402
from tracekit.collect.gpt2 import GPT2, PRESETS, GPT2Config  # noqa: E402
from tracekit.collect.graphs import CapturedStep  # noqa: E402
from tracekit.collect.variants import Demand, eager  # noqa: E402
from tracekit.collect.weights import build_model  # noqa: E402
from tracekit.collect.workload import Next  # noqa: E402
from tracekit.errors import TracekitError  # noqa: E402
from tracekit.kernels import compile as compiler  # noqa: E402
from tracekit.kernels import hopper, hopper_ops  # noqa: E402
from tracekit.kernels.decode import Decoder, Linear  # noqa: E402
from tracekit.kernels.packing import pack_attention, pack_mlp, packed  # noqa: E402
from tracekit.kernels.shape import Shape  # noqa: E402

HOPPER = torch.cuda.is_available() and compiler.target(torch.cuda.get_device_capability()).capability >= hopper.CAPABILITY
on_hopper = pytest.mark.skipif(not HOPPER, reason="needs a CUDA device of compute capability 9.0, and its code")
MODEL_BOUND = 5e-3


def config_of(width: int, layers: int = 2, vocabulary: int = 1013, context: int = 1024) -> GPT2Config:
    return GPT2Config(vocab_size=vocabulary, context=context, layers=layers, heads=width // 64, width=width)


def model_of(config: GPT2Config, dtype: torch.dtype, device: str, batch: int = 1) -> GPT2:
    state = {name: one.to(device, dtype) for name, one in lively_state(config).items()}
    model = build_model(config, state)
    model.allocate_cache(batch, config.context)
    return model


def unpacked(weights: torch.Tensor, rows: int, columns: int, inputs: int, width: int) -> list[torch.Tensor]:
    """A block's tensors, in the order of the structures in hopper.cu: rows, their sums and biases, the other bias, columns."""
    sizes = [rows * (width + 8), 2 * rows, 2 * rows, columns, columns * (inputs + 8)]
    first, sums, row_bias, column_bias, second = weights.split(sizes)
    wide = [one.clone().view(torch.float32) for one in (sums, row_bias)]
    return [first.view(rows, -1)[:, :width], *wide, column_bias, second.view(columns, -1)[:, :inputs]]


def as_lanes_take_them(inputs: torch.Tensor, steps: int) -> torch.Tensor:
    """The last dimension where `mma.m16n8k16` has number 2 i, 2 i + 1, 2 i + 8, 2 i + 9 of each step for lane i: in one piece."""
    order = torch.empty(16 * steps, dtype=torch.int64)
    for lane in range(4):
        taken = [16 * step + number for step in range(steps) for number in (2 * lane, 2 * lane + 1, 2 * lane + 8, 2 * lane + 9)]
        order[taken] = torch.arange(lane * 4 * steps, (lane + 1) * 4 * steps)
    return inputs.unflatten(-1, (-1, 16 * steps))[..., order].flatten(-2)


@pytest.mark.parametrize("width", [256, 768])
def test_each_block_has_its_own_weights_together(width: int) -> None:
    model = model_tensors(model_of(config_of(width), torch.float16, "cpu"), in_fp16)
    layer, shape, columns = model.layers[0], model.checked_shape(), width // 8
    attention, mlp = pack_attention(layer, shape), pack_mlp(layer, shape)
    assert len(attention) == len(mlp) == 8 * shape.heads
    for block in (0, 1, 7, 8, 8 * shape.heads - 1):
        head, rank = divmod(block, 8)
        own = slice(rank * columns, (rank + 1) * columns)
        outputs = torch.arange(rank * 24, rank * 24 + 24)  # of the head's query, key and value
        rows = outputs // 64 * width + head * 64 + outputs % 64
        projection = layer.projection.weight[own, head * 64 : (head + 1) * 64]
        check_block(unpacked(attention[block], 24, columns, 64, width), layer.qkv, layer.norm_1, rows)
        check_columns(unpacked(attention[block], 24, columns, 64, width), layer.projection.bias[own], projection)
        rows = torch.arange(head * 256 + rank * 32, head * 256 + rank * 32 + 32)
        check_block(unpacked(mlp[block], 32, columns, 256, width), layer.fc1, layer.norm_2, rows)
        fc2 = layer.fc2.weight[own, head * 256 : (head + 1) * 256]
        check_columns(unpacked(mlp[block], 32, columns, 256, width), layer.fc2.bias[own], fc2)


def check_block(found: list[torch.Tensor], linear: Linear, norm: tuple[torch.Tensor, torch.Tensor], rows: torch.Tensor) -> None:
    """The rows of a linear layer behind a norm: what it does to a normalised hidden state is what norm and layer do."""
    weight, sums, bias = found[:3]
    gamma, beta = (one.double() for one in norm)
    exact = linear.weight[rows].double()
    assert torch.equal(weight, as_lanes_take_them((exact * gamma).half(), 1))
    torch.testing.assert_close(sums.double(), weight.double().sum(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(bias.double(), exact @ beta + linear.bias[rows].double(), rtol=1e-5, atol=1e-5)


def check_columns(found: list[torch.Tensor], bias: torch.Tensor, weight: torch.Tensor) -> None:
    assert torch.equal(found[3], bias)
    assert torch.equal(found[4], as_lanes_take_them(weight, 2))


def test_the_launch_has_the_arguments_of_the_kernel_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    launches = []

    class Recorder:
        def launch(self, name, grid, threads, arguments, shared_bytes, cooperative):
            launches.append((name, grid, threads, arguments, shared_bytes))
            assert cooperative  # its blocks wait for each other

    monkeypatch.setattr(hopper, "persistent_kernel", lambda device, width: Recorder())
    model = packed(model_tensors(model_of(config_of(256), torch.float16, "cpu"), in_fp16))
    step = hopper.PersistentStep(model)
    tokens, position, logits = torch.zeros((1, 1), dtype=torch.int64), torch.zeros(1, dtype=torch.int64), torch.empty(1, 1013)
    step(tokens, position, logits)
    ((name, grid, threads, arguments, shared_bytes),) = launches
    assert (name, grid, threads, shared_bytes) == (hopper.KERNEL, (32, 1), 640, hopper.shared_bytes(256))
    assert ["int" if isinstance(one, int) else "pointer" for one in arguments] == parameters("hopper.cu", name)
    (signature,) = re.findall(rf"{name}\(([^)]*)\)", compiler.source("hopper.cu"))
    named = dict(zip((re.findall(r"\w+", one)[-1] for one in signature.split(",")), arguments, strict=True))
    caches = named.pop("caches")
    assert caches.tolist() == [[keys.data_ptr(), values.data_ptr()] for keys, values in model.caches]
    expected = {
        "token": tokens,
        "position": position,
        "token_embedding": model.embeddings[0],
        "position_embedding": model.embeddings[1],
        "attention_weights": model.attention,
        "mlp_weights": model.mlp,
        "gamma": model.norm[0],
        "beta": model.norm[1],
        "head_weight": model.head,
        **dict(zip(("attention_shares", "mlp_shares", "best"), step.exchange, strict=True)),
        "logits": logits,
    }
    assert {name: named.pop(name) for name in (*named,)[-3:]} == {"layer_count": 2, "length": 1024, "vocabulary": 1013}
    assert list(named) == list(expected)
    assert all(named[name] is tensor for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("shape", "layers", "length", "reason"),
    [
        (Shape(768, 64, 1), 12, 1024, None),
        (Shape(768, 64, 1), 64, 2032, None),
        (Shape(768, 64, 1), 65, 1024, "at most 64 layers, not 65"),
        (Shape(768, 64, 1), 12, 2033, "at most 2032 tokens long, not 2033"),
        (Shape(768, 64, 2), 12, 1024, "the batch must be 1, not 2"),
        (Shape(1024, 64, 1), 12, 1024, "not 1024 in 64"),
        (Shape(768, 32, 1), 12, 1024, "not 768 in 32"),
    ],
)
def test_what_the_kernel_is_not_for_is_told(shape: Shape, layers: int, length: int, reason: str | None) -> None:
    found = hopper.shape_obstacle(shape, layers, length)
    assert found is None if reason is None else reason in (found or "")


def test_a_model_on_a_cpu_is_refused() -> None:
    model = model_tensors(model_of(config_of(256), torch.float16, "cpu"), in_fp16)
    assert hopper.obstacle(model) == "the kernel runs on CUDA devices, not on cpu"
    with pytest.raises(ValueError, match="CUDA devices"):
        hopper.PersistentDecoder(model)


def test_the_source_is_not_compiled_for_another_size_than_it_is_launched_with() -> None:
    if not compiler.available():
        pytest.skip("needs the extra cuda")
    macros = hopper.macros(256)
    compiler.compile_source(compiler.source("hopper.cu"), "sm_90", macros)
    with pytest.raises(TracekitError, match="NVRTC could not compile"):
        compiler.compile_source(compiler.source("hopper.cu"), "sm_90", macros | {"SHARED_BYTES": macros["SHARED_BYTES"] + 128})


@pytest.mark.gpu
@on_hopper
@pytest.mark.parametrize(
    ("config", "steps"),
    [
        (config_of(256), 40),
        (config_of(512, layers=3), 40),
        (config_of(768, layers=1, vocabulary=1), 5),
        (PRESETS["gpt2"], 130),
        (replace(config_of(768), context=2032), 2032),  # one block's share of the keys, then all blocks'
    ],
)
@torch.inference_mode()
def test_logits_and_cache_are_the_models(config: GPT2Config, steps: int) -> None:
    model, plain = (model_of(config, dtype, "cuda") for dtype in (torch.float16, torch.float32))
    step, reference = hopper.PersistentDecoder(model_tensors(model, in_fp16)), eager(plain, Demand())
    step._logits.fill_(torch.nan)
    token, squares = torch.zeros((1, 1), dtype=torch.int64, device="cuda"), torch.zeros(2, dtype=torch.float64, device="cuda")
    for at in range(steps):
        position = torch.tensor([at], device="cuda")
        wanted = reference(token, position).logits
        logits = step(token, position)
        assert position.item() == at + 1
        difference = logits.double() - wanted[:, 0].double()
        squares += torch.stack([difference.square().sum(), wanted.double().square().sum()])
    assert float((squares[0] / squares[1]).sqrt()) < MODEL_BOUND
    for own, other in zip(model.blocks(), plain.blocks(), strict=True):
        for found, wanted in ((own.attn.cache.keys, other.attn.cache.keys), (own.attn.cache.values, other.attn.cache.values)):
            assert (
                float((found[:, :, :steps].double() - wanted[:, :, :steps]).norm() / wanted[:, :, :steps].double().norm())
                < MODEL_BOUND
            )


@pytest.mark.gpu
@on_hopper
@torch.inference_mode()
def test_a_step_leaves_its_buffers_as_it_found_them_and_every_run_is_the_same() -> None:
    model = model_tensors(model_of(PRESETS["gpt2"], torch.float16, "cuda"), in_fp16)
    decoder = hopper.PersistentDecoder(model)
    runs = []
    step = CapturedStep(lambda tokens, positions: Next(tokens, positions, decoder(tokens, positions)))
    for _ in range(3):
        token, position, tokens = torch.full((1, 1), 17, device="cuda"), torch.zeros(1, dtype=torch.int64, device="cuda"), []
        for _ in range(100):
            token, position, _ = step(token, position)
            tokens.append(token.clone())
        runs.append(torch.cat(tokens))
    assert all(torch.equal(run, runs[0]) for run in runs)
    attention_shares, mlp_shares, best = decoder._step.exchange
    for shares in (attention_shares, mlp_shares):
        assert torch.all(shares.view(torch.int32) == -1)
    assert torch.all(best == -1)


@pytest.mark.gpu
@on_hopper
@torch.inference_mode()
def test_it_chooses_as_the_kernels_of_a_layer_do() -> None:
    model = model_tensors(model_of(PRESETS["gpt2"], torch.float16, "cuda"), in_fp16)
    one, other = hopper.PersistentDecoder(model), Decoder(model)
    for start in (0, 5, 50256):
        token, expected = (torch.full((1, 1), start, device="cuda") for _ in range(2))
        positions = torch.zeros((2, 1), dtype=torch.int64, device="cuda")
        logits, wanted = one(token, positions[0]), other(expected, positions[1])
        assert positions.flatten().tolist() == [1, 1]
        assert float((logits.double() - wanted.double()).norm() / wanted.double().norm()) < MODEL_BOUND
        assert torch.equal(token, logits.argmax(-1, keepdim=True))
        assert torch.equal(expected, wanted.argmax(-1, keepdim=True))


@pytest.mark.gpu
@on_hopper
@pytest.mark.parametrize(("width", "vocabulary"), [(256, 9), (256, 1013), (768, 50257)])
@torch.inference_mode()
def test_it_chooses_as_argmax_where_logits_are_nan_infinite_or_equal(width: int, vocabulary: int) -> None:
    norm, *alike = logits_that_round_alike(width, vocabulary, "cuda")
    table = torch.empty_like(alike[0])
    model = model_tensors(model_of(config_of(width, vocabulary=vocabulary), torch.float16, "cuda"), in_fp16)
    step = hopper.PersistentDecoder(replace(model, norm=norm, head=Linear(table)))
    cases = [(head_that_yields(logits, width, "cuda").weight, logits) for logits in peculiar_logits(vocabulary).values()]
    for weight, logits in (alike, *cases):
        table.copy_(weight)
        token, position = torch.full((1, 1), 5, device="cuda"), torch.zeros(1, dtype=torch.int64, device="cuda")
        check_choice(token, step(token, position), logits)


@pytest.mark.gpu
@on_hopper
@torch.inference_mode()
def test_a_model_of_nan_ends_and_says_nan() -> None:
    """A NaN goes through all shares of all layers; it must not be taken for a share that is not there."""
    model = model_of(config_of(256, layers=3), torch.float16, "cuda")
    model.wte.weight[5] = NAN
    step = hopper.PersistentDecoder(model_tensors(model, in_fp16))
    token, position = torch.full((1, 1), 5, device="cuda"), torch.zeros(1, dtype=torch.int64, device="cuda")
    assert step(token, position).isnan().all()
    assert (token.item(), position.item()) == (0, 1)


@pytest.mark.gpu
@on_hopper
@torch.inference_mode()
def test_more_blocks_than_the_device_holds_are_refused_before_anything_runs() -> None:
    model = model_tensors(model_of(config_of(256), torch.float16, "cuda"), in_fp16)
    decoder, (token, position) = (
        hopper.PersistentDecoder(model),
        (torch.zeros((1, 1), dtype=torch.int64), torch.zeros(1).long()),
    )
    blocks, decoder._step._blocks = decoder._step._blocks, 8 * 1000
    with pytest.raises(
        TracekitError, match=r"^the kernel gpt2_decode_step: 8000 blocks of .* must run at once, .*; run the variant"
    ):
        decoder(token.cuda(), position.cuda())
    decoder._step._blocks = blocks
    token, position = token.cuda(), position.cuda()
    assert decoder(token, position).isfinite().all()
    assert position.item() == 1


@pytest.mark.gpu
@on_hopper
@torch.inference_mode()
def test_steps_of_two_decoders_may_be_queued_at_once() -> None:
    model = model_tensors(model_of(PRESETS["gpt2"], torch.float16, "cuda"), in_fp16)
    streams, runs, found = [torch.cuda.Stream() for _ in range(2)], [], []
    for _ in streams:
        decoder = hopper.PersistentDecoder(model)
        step = CapturedStep(lambda tokens, positions, decoder=decoder: Next(tokens, positions, decoder(tokens, positions)))
        token, position = torch.full((1, 1), 17, device="cuda"), torch.zeros(1, dtype=torch.int64, device="cuda")
        runs.append((step, token, position))
        step(token, position)
    torch.cuda.synchronize()
    following = [(token, position) for _, token, position in runs]
    for _ in range(50):
        for at, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                token, position, logits = runs[at][0](*following[at])
                following[at], found = (token, position), [*found, (at, token.clone(), logits.isfinite().all())]
    torch.cuda.synchronize()
    tokens = [[int(token) for at, token, finite in found if at == which and bool(finite)] for which in range(2)]
    assert len(tokens[0]) == 50
    assert tokens[0] == tokens[1]


# What may never come, and how the source is changed so that it does not.
STUCK = {
    "a share": ("  publish(share + place.rank", "  if (blockIdx.x != 3) publish(share + place.rank"),
    "weights": (
        "  expect(mailbox, sizeof(own));\n  fetch_into(&own, layer",
        "  expect(mailbox, sizeof(own) + 16);\n  fetch_into(&own, layer",
    ),
    "what the cluster sends": ("&shared.units.mailbox, lane_id(), pack(", "&shared.units.mailbox, min(lane_id(), 6), pack("),
    "a warp's word that it read its weights": ("  tell_read<kFc1>(", "  if (warp() != 2) tell_read<kFc1>("),
    "a block's best token": ("if (threadIdx.x == 0) publish_best", "if (threadIdx.x == 0 && blockIdx.x != 3) publish_best"),
}


@pytest.mark.gpu
@on_hopper
@pytest.mark.parametrize("what", STUCK)
def test_a_wait_for_what_never_comes_ends_in_an_error(what: str, tmp_path: Path) -> None:
    script = Path(__file__).parent.parent / "support" / "stuck_step.py"
    environment = os.environ | {"TRACEKIT_CACHE": str(tmp_path)}
    run = subprocess.run([sys.executable, script, *STUCK[what]], capture_output=True, text=True, timeout=120, env=environment)
    assert run.returncode == 0, run.stderr
    assert re.search(r"^2 steps as it is, then RuntimeError: .*launch failure", run.stdout), run.stdout


@pytest.mark.parametrize("what", STUCK)
def test_what_may_never_come_is_in_the_source_once(what: str) -> None:
    assert compiler.source("hopper.cu").count(STUCK[what][0]) == 1


def test_every_mailbox_that_is_waited_for_is_waited_for_with_patience() -> None:
    """A warp that computes waits without a bound, for what the last warp waits for with one."""
    text = re.sub(r"//.*", "", compiler.source("hopper.cu"))
    calls = re.findall(r"receive\(&(?:shared\.)?([\w.]+), ([^;]*?)\);", text)
    bounded = {name for name, rest in calls if rest.endswith("patience")}
    others = {name for name, rest in calls if not rest.endswith("patience")} - {"norm.mailbox"}  # either norm's
    assert len(others) >= 7
    assert {one.removeprefix("box.") for one in others} <= {one.removeprefix("box.") for one in bounded}
    assert {"attention_norm.mailbox", "mlp_norm.mailbox"} <= bounded


@pytest.mark.gpu
@on_hopper
def test_what_it_cannot_run_it_refuses() -> None:
    cases = (
        (config_of(256), 2, "the batch must be 1"),
        (config_of(1024), 1, "the width must be 256, 512, 768"),
        (config_of(256, layers=65), 1, "at most 64 layers, not 65"),
        (config_of(256, context=2040), 1, "at most 2032 tokens long, not 2040"),
    )
    for config, batch, words in cases:
        model = model_tensors(model_of(config, torch.float16, "cuda", batch), in_fp16)
        assert words in (hopper.obstacle(model) or "")


@pytest.mark.gpu
@on_hopper
@torch.inference_mode()
def test_the_operator_is_the_decoder() -> None:
    model = model_tensors(model_of(config_of(256), torch.float16, "cuda"), in_fp16)
    token, other = (torch.full((1, 1), 5, device="cuda") for _ in range(2))
    position, other_position = (torch.zeros(1, dtype=torch.int64, device="cuda") for _ in range(2))
    decoder, pieces = hopper.PersistentDecoder(model), packed(model)
    keys, values = (list(one) for one in zip(*pieces.caches, strict=True))
    for at in range(3):
        logits = decoder(token, position).clone()
        found = hopper_ops.decode_step(
            other, other_position, *pieces.embeddings, pieces.attention, pieces.mlp, keys, values, *pieces.norm, pieces.head
        )
        assert torch.equal(found, logits)
        assert (token.item(), position.item()) == (other.item(), other_position.item()) == (token.item(), at + 1)
