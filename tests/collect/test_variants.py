from __future__ import annotations

import pytest

from tracekit.collect.options import CollectOptions
from tracekit.collect.run import choose
from tracekit.collect.variants import VARIANTS, Demand, eager, find_variant
from tracekit.errors import TracekitError
from tracekit.manifest import Device

CPU = Device("cpu", "a CPU")
H100 = Device("cuda", "NVIDIA H100", compute_capability="9.0")
T4 = Device("cuda", "Tesla T4", compute_capability="7.5")
P100 = Device("cuda", "Tesla P100", compute_capability="6.0")
NAMES = [
    *("baseline", "fp16", "bf16", "compiled", "fp16-compiled", "graphs", "fp16-compiled-graphs"),
    *("fused", "fused-layers", "fused-int8"),
]


def test_the_registry_names_explains_and_finds_every_variant() -> None:
    assert [variant.name for variant in VARIANTS] == NAMES
    for variant in VARIANTS:
        assert find_variant(variant.name) is variant
        assert variant.summary
        assert variant.needs
    assert [variant.name for variant in VARIANTS if variant.annotatable] == ["baseline", "fp16", "bf16"]


@pytest.mark.parametrize(
    ("device", "unsupported"),
    [
        (H100, []),
        (T4, []),
        (P100, ["compiled", "fp16-compiled", "fp16-compiled-graphs", "fused", "fused-layers", "fused-int8"]),
        (CPU, ["compiled", "fp16-compiled", "graphs", "fp16-compiled-graphs", "fused", "fused-layers", "fused-int8"]),
    ],
    ids=lambda value: value.name if isinstance(value, Device) else "",
)
def test_each_device_runs_what_it_can(device: Device, unsupported: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    reasons = {variant.name: variant.unsupported(device) for variant in VARIANTS}
    assert [name for name, reason in reasons.items() if reason] == unsupported
    if device is CPU:
        assert "no no-such-compiler (install g++" in str(reasons["compiled"])
        assert reasons["graphs"] == "CUDA graphs need a CUDA device"
    if device is P100:
        assert reasons["compiled"] == "Triton needs compute capability 7.0, this is 6.0"
        assert reasons["fused"] == "its kernels need compute capability 7.5, this is 6.0"


def test_without_the_extra_fused_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'torch-tracekit[cuda]'" in str(find_variant("fused").unsupported(H100))


def test_bf16_is_doubted_where_it_is_emulated() -> None:
    assert "emulated at compute capability 7.5" in str(find_variant("bf16").doubt(T4))
    assert find_variant("bf16").doubt(H100) is None
    assert find_variant("fp16").doubt(T4) is None


def test_captured_steps_need_a_fixed_shape(console) -> None:
    every = choose(VARIANTS, H100, CollectOptions(all_variants=True, workload="recompute"), console)
    assert [variant.name for variant in every] == NAMES[:5]
    assert console.notices == [f"skipped {name}: captures steps of fixed shape, and recompute has none" for name in NAMES[5:]]
    with pytest.raises(TracekitError, match=r"^variant graphs: captures steps") as caught:
        choose((find_variant("graphs"),), H100, CollectOptions(workload="recompute"), console)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workload", ["generate", "prefill"])
def test_the_other_workloads_are_for_all(workload: str, console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    every = choose(VARIANTS, H100, CollectOptions(all_variants=True, workload=workload), console)
    assert [variant.name for variant in every] == NAMES
    assert console.notices == []


def tiny_model(attention: str = "sdpa"):
    pytest.importorskip("torch")
    from tracekit.collect.gpt2 import PRESETS
    from tracekit.collect.weights import build_model, random_state

    return build_model(PRESETS["tiny"], random_state(PRESETS["tiny"], 0), attention)


@pytest.mark.parametrize("attention", ["sdpa", "explicit"])
def test_adding_biases_apart_computes_the_same_over_the_same_weights(attention: str) -> None:
    from tracekit.collect import variants

    model, other = tiny_model(attention), tiny_model(attention)
    torch = pytest.importorskip("torch")
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.load_state_dict(other.state_dict())
    addresses = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    variants._add_biases_apart(model)
    assert {name: parameter.data_ptr() for name, parameter in model.named_parameters()} == addresses
    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert len(linears) == 8
    assert not any(type(module) is torch.nn.Linear for module in linears)
    tokens, positions = torch.arange(12)[None], torch.arange(12)
    torch.testing.assert_close(model(tokens, positions), other(tokens, positions))


def test_a_step_yields_the_token_its_position_and_the_logits_it_was_chosen_by() -> None:
    torch = pytest.importorskip("torch")
    token, position, logits = eager(tiny_model(), Demand())(torch.arange(5)[None], torch.arange(5))
    assert position.tolist() == [5]
    assert (token.shape, logits.shape) == ((1, 1), (1, 1, 512))
    assert torch.equal(token, logits.argmax(-1))
