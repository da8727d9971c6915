"""Does every entry to the kernels refuse what it cannot do, in one line that names it? `test_ops.py` spoils each argument in turn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from decode_inputs import Inputs  # noqa: E402

from tracekit.errors import TracekitError  # noqa: E402
from tracekit.kernels import ops  # noqa: E402
from tracekit.kernels.decode import Decoder, LayerTensors, Linear, ModelTensors  # noqa: E402
from tracekit.kernels.launch import Kernels  # noqa: E402

LENGTH, VOCABULARY = 16, 33


@pytest.fixture
def make() -> Inputs:
    return Inputs(64, 2, 3, LENGTH, "cpu", seed=5, vocabulary=VOCABULARY)


def qkv(make: Inputs) -> tuple[torch.Tensor, ...]:
    linear = make.linear("fp16", 3)
    return (*make.norm(), linear.weight, linear.bias, *make.cache(LENGTH))


def fc1(make: Inputs) -> tuple[torch.Tensor, ...]:
    linear = make.linear("fp16", 4)
    return (*make.norm(), linear.weight, linear.bias)


@pytest.mark.parametrize("at", [-1, LENGTH, LENGTH + 5])
def test_a_position_beyond_the_cache(make: Inputs, at: int) -> None:
    reason = rf"position must be 0 to 15, not \[{at}\]"
    embeddings = (make.normal(VOCABULARY, 64), make.normal(LENGTH, 64))
    with pytest.raises(ValueError, match=f"^decode_attention: {reason}$"):
        ops.decode_attention(make.normal(3, 64), make.position(at), *make.cache(LENGTH))
    with pytest.raises(ValueError, match=f"^norm_qkv: {reason}$"):
        ops.norm_qkv(make.hidden(), make.position(at), *qkv(make))
    with pytest.raises(ValueError, match=f"^embed_norm_qkv: {reason}$"):
        ops.embed_norm_qkv(make.tokens(), make.position(at), *embeddings, *qkv(make))


@pytest.mark.parametrize("token", [-1, VOCABULARY])
def test_a_token_that_the_model_does_not_know(make: Inputs, token: int) -> None:
    embeddings = (make.normal(VOCABULARY, 64), make.normal(LENGTH, 64))
    tokens = make.tokens()
    tokens[1] = token
    with pytest.raises(ValueError, match=r"^embed_norm_qkv: tokens must be 0 to 32, not \["):
        ops.embed_norm_qkv(tokens, make.position(1), *embeddings, *qkv(make))


def test_nothing_at_all(make: Inputs) -> None:
    empty = make.normal(3, 2, 0, 32)
    with pytest.raises(ValueError, match=r"^decode_attention: keys must have room for one or more tokens$"):
        ops.decode_attention(make.normal(3, 64), make.position(0), empty, empty.clone())
    with pytest.raises(ValueError, match=r"^norm_lm_head: weight must have a row for each of one or more tokens$"):
        ops.norm_lm_head(make.hidden(), *make.norm(), make.normal(0, 64))
    with pytest.raises(ValueError, match=r"^norm_fc1_gelu: the batch must be 1 to 16, not 0$"):
        ops.norm_fc1_gelu(make.hidden()[:0], *fc1(make))


def test_another_kind_of_device(make: Inputs) -> None:
    arguments = (make.hidden(), *fc1(make))
    with pytest.raises(ValueError, match=r"^norm_fc1_gelu: there are kernels for cuda and cpu, not for meta$"):
        ops.norm_fc1_gelu(*(one.to("meta") for one in arguments))
    with pytest.raises(ValueError, match=r"^norm_fc1_gelu: gamma is on meta, the others are on cpu$"):
        ops.norm_fc1_gelu(arguments[0], arguments[1].to("meta"), *arguments[2:])


def test_a_decoder_of_tensors_on_the_host(make: Inputs) -> None:
    embeddings, norm = (make.normal(VOCABULARY, 64), make.normal(LENGTH, 64)), make.norm()
    qkv, projection, fc1, fc2 = (make.linear("fp16", *sizes) for sizes in ((3,), (1,), (4,), (1, 4)))
    layer = LayerTensors(norm, qkv, projection, norm, fc1, fc2, *make.cache(LENGTH))
    with pytest.raises(ValueError, match=r"^the decode kernels run on CUDA devices, not on cpu$"):
        Decoder(ModelTensors(embeddings, (layer,), norm, Linear(embeddings[0])))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_no_device_or_no_driver() -> None:
    with pytest.raises(TracekitError, match=r"^the kernels need a CUDA device and its driver, torch finds none; "):
        Kernels("decode.cu", torch.device("cuda"), {})


@pytest.mark.parametrize(
    ("device", "reason"), [("cpu", "variant fused: its kernels need a CUDA device"), ("cuda", "--device: cuda is")]
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_the_command_says_it_in_one_line(device: str, reason: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from tracekit.cli import main; main()", "collect", "--variant", "fused"]
    command += ["--device", device, "--model", "tiny", "--weights", "random", "-o", str(tmp_path / "traces")]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, env=os.environ)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith(f"tracekit: {reason}")
    assert "Traceback" not in run.stderr
