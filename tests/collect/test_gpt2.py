from __future__ import annotations

import functools
import os
import shutil
from collections import Counter
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from tracekit.collect.gpt2 import (  # noqa: E402
    ATTENTION_FORMS,
    GPT2,
    PRESETS,
    GPT2Config,
    parameter_count,
)
from tracekit.collect.options import Sampling  # noqa: E402
from tracekit.collect.variants import Demand, eager  # noqa: E402
from tracekit.collect.weights import build_model, convert_state, random_state  # noqa: E402
from tracekit.collect.workload import generate, left_padded, random_prompt, recompute  # noqa: E402

CONFIGS = [
    PRESETS["tiny"],
    GPT2Config(vocab_size=97, context=120, layers=1, heads=1, width=24),
    GPT2Config(vocab_size=301, context=112, layers=5, heads=3, width=96),
    GPT2Config(vocab_size=128, context=160, layers=3, heads=8, width=32),
]


both_forms = pytest.mark.parametrize("attention", ATTENTION_FORMS)
needs_compiler = pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler on a CPU"
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small are no work to share: threads would only wait for each other, for long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _forget_compiled_steps() -> Iterator[None]:
    yield
    torch.compiler.reset()


def pair(config: GPT2Config, seed: int = 0, attention: str = "sdpa"):
    """transformers' model and ours with the same weights, none of them zero or one, so that each matters."""
    torch.manual_seed(seed)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.context,
            n_layer=config.layers,
            n_head=config.heads,
            n_embd=config.width,
        )
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    ours = GPT2(config, attention)
    ours.load_state_dict(convert_state(theirs.state_dict(), config))
    return theirs, ours.eval().requires_grad_(False)


def step_of(model: GPT2):
    return eager(model, Demand())


@torch.no_grad()
def cached_logits(model: GPT2, tokens, prompt_tokens: int):
    """Logits of every token, with all after the prompt fed one at a time."""
    model.allocate_cache(len(tokens), tokens.shape[1])
    positions = torch.arange(tokens.shape[1])
    parts = [model(tokens[:, :prompt_tokens], positions[:prompt_tokens])]
    parts += [model(tokens[:, [at]], positions[[at]]) for at in range(prompt_tokens, tokens.shape[1])]
    model.drop_cache()
    return torch.cat(parts, 1)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
@both_forms
def test_logits_equal_transformers_with_and_without_cache(config: GPT2Config, batch: int, attention: str) -> None:
    theirs, ours = pair(config, attention=attention)
    tokens = random_prompt(config, batch, 45, seed=batch)
    with torch.no_grad():
        expected = theirs(tokens).logits
        plain = ours(tokens, torch.arange(45))
    torch.testing.assert_close(plain, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(cached_logits(ours, tokens, prompt_tokens=7), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@both_forms
def test_greedy_tokens_equal_transformers(config: GPT2Config, attention: str) -> None:
    theirs, ours = pair(config, seed=1, attention=attention)
    prompt = random_prompt(config, 2, 9, seed=1)
    new_tokens = 100
    expected = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=new_tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )[:, 9:]
    assert recompute(step_of(ours), prompt, new_tokens).tokens.tolist() == expected.tolist()
    ours.allocate_cache(2, 9 + new_tokens)
    generation = generate(step_of(ours), prompt, new_tokens)
    assert generation.tokens.tolist() == expected.tolist()
    assert 0 < generation.first_token_ns < generation.total_ns


def small(attention: str, padding: tuple[int, ...] | None, cache: bool):
    """A model of one layer and a prompt for it, for what takes long."""
    config = GPT2Config(vocab_size=64, context=64, layers=1, heads=2, width=16)
    _, model = pair(config, attention=attention)
    model.set_padding(None if padding is None else torch.tensor(padding))
    if cache:
        model.allocate_cache(2, 32)
    return model, random_prompt(config, 2, 8, seed=0)


PROMPT_LENGTHS = (11, 4, 1, 7)


def padded_batch(config: GPT2Config, tokens_after: int = 0):
    """Prompts of different length followed by `tokens_after` more tokens each, their padding, and transformers' mask."""
    prompts = [random_prompt(config, 1, length + tokens_after, seed=length)[0] for length in PROMPT_LENGTHS]
    tokens, padding = left_padded(prompts)
    attended = torch.arange(tokens.shape[1]) >= padding[:, None]
    return tokens, padding, attended


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@both_forms
def test_logits_of_padded_prompts_equal_transformers(config: GPT2Config, attention: str) -> None:
    theirs, ours = pair(config, seed=2, attention=attention)
    tokens, padding, attended = padded_batch(config, tokens_after=20)
    positions = torch.arange(tokens.shape[1])
    with torch.no_grad():
        expected = theirs(
            tokens, attention_mask=attended.long(), position_ids=(attended.long().cumsum(-1) - 1).clamp_min(0)
        ).logits
        ours.set_padding(padding)
        plain = ours(tokens, positions)
    cached = cached_logits(ours, tokens, prompt_tokens=max(PROMPT_LENGTHS))
    for logits in (plain, cached):
        assert logits.isfinite().all()
        torch.testing.assert_close(logits[attended], expected[attended], atol=1e-4, rtol=0)


@both_forms
def test_greedy_tokens_of_padded_prompts_equal_transformers_and_those_of_each_alone(attention: str) -> None:
    config = CONFIGS[2]
    theirs, ours = pair(config, seed=3, attention=attention)
    tokens, padding, attended = padded_batch(config)
    expected = theirs.generate(
        tokens, attention_mask=attended.long(), max_new_tokens=60, do_sample=False, eos_token_id=None, pad_token_id=0
    )[:, tokens.shape[1] :].tolist()
    ours.set_padding(padding)
    assert recompute(step_of(ours), tokens, 60).tokens.tolist() == expected
    ours.allocate_cache(len(tokens), tokens.shape[1] + 60)
    assert generate(step_of(ours), tokens, 60).tokens.tolist() == expected

    ours.set_padding(None)
    ours.allocate_cache(1, 80)
    alone = [generate(step_of(ours), row[pad:][None], 60).tokens[0].tolist() for row, pad in zip(tokens, padding, strict=True)]
    assert alone == expected


def test_padding_set_before_or_after_the_cache_is_the_same() -> None:
    config = PRESETS["tiny"]
    model = build_model(config, random_state(config, 0))
    padding = torch.tensor([0, 3])
    model.set_padding(padding)
    model.allocate_cache(2, 16)
    before = model.causal
    model.set_padding(None)
    assert model.causal.shape == (16, 16)
    model.set_padding(padding)
    assert torch.equal(model.causal, before)


def test_the_forms_of_attention_agree_in_half_precision() -> None:
    config = CONFIGS[2]
    tokens = random_prompt(config, 2, 40, seed=0)
    for dtype, bound in ((torch.float16, 5e-3), (torch.bfloat16, 4e-2)):
        outputs = []
        for attention in ATTENTION_FORMS:
            _, model = pair(config, attention=attention)
            outputs.append(cached_logits(model.to(dtype), tokens, prompt_tokens=5).float())
        assert (outputs[0] - outputs[1]).norm() / outputs[0].norm() < bound


def test_an_unknown_form_of_attention_is_refused() -> None:
    with pytest.raises(ValueError, match="no such attention as 'flash'; use one of sdpa, explicit"):
        GPT2(PRESETS["tiny"], "flash")


class OperatorCounter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def decode_operators(attention: str, layers: int = 12) -> Counter[str]:
    """The operators of one decode step, each before it is decomposed."""
    config = GPT2Config(vocab_size=64, context=32, layers=layers, heads=2, width=16)
    model = GPT2(config, attention).eval()
    model.allocate_cache(1, 32)
    tokens, positions = torch.zeros(1, 1, dtype=torch.long), torch.tensor([16])
    with torch.inference_mode(), OperatorCounter() as counter:
        eager(model, Demand())(tokens, positions)
    return counter.counts


def test_a_decode_step_takes_no_more_operators_than_it_must() -> None:
    """212 for 12 layers before the model came apart into pieces, and two for the next position: a step is as slow as that."""
    counts = decode_operators("sdpa")
    assert counts["linear"] == 4 * 12 + 1
    assert sum(counts.values()) <= 214


def test_the_explicit_form_runs_its_pieces_as_operators() -> None:
    sdpa, explicit = decode_operators("sdpa"), decode_operators("explicit")
    assert explicit - sdpa == Counter(matmul=24, mul=12, add=12, softmax=12, transpose=12)
    assert sdpa - explicit == Counter(scaled_dot_product_attention=12)


@both_forms
@pytest.mark.parametrize("padding", [None, (0, 4)])
@pytest.mark.parametrize("cache", [True, False])
def test_the_steps_trace_in_one_graph(attention: str, padding: tuple[int, ...] | None, cache: bool) -> None:
    """What could break a graph does so in tracing; generating code for it as well would take minutes."""
    model, prompt = small(attention, padding, cache)
    steps = [step_of(model), eager(model, Demand(Sampling(0.7, 1)))]
    run = functools.partial(generate if cache else recompute, prompt=prompt, new_tokens=3 if cache else 2)
    expected = run(steps[0]).tokens
    for step in steps:
        traced = torch.compile(step, fullgraph=True, dynamic=False, backend="eager")
        assert torch.equal(run(traced).tokens, expected)


@needs_compiler
def test_a_compiled_sampling_step_generates_what_an_eager_one_does() -> None:
    model, prompt = small("sdpa", (0, 4), cache=True)
    step = torch.compile(eager(model, Demand(Sampling(0.7, 1))), fullgraph=True, dynamic=False)
    assert torch.equal(generate(step, prompt, 12).tokens, generate(step_of(model), prompt, 12).tokens)


@pytest.mark.parametrize("step", [{"temperature": 0.0}, {"temperature": 0.0, "top_k": 5}, {"temperature": 3.0, "top_k": 1}])
def test_sampling_without_a_choice_is_greedy(step: dict) -> None:
    config = PRESETS["tiny"]
    _, model = pair(config)
    model.allocate_cache(2, 64)
    prompt = random_prompt(config, 2, 8, seed=0)
    sampled = generate(eager(model, Demand(Sampling(**step))), prompt, 50).tokens
    assert torch.equal(sampled, generate(step_of(model), prompt, 50).tokens)


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.6, None), (2.5, 4), (1.0, 99)])
def test_samples_are_distributed_as_the_softmax(temperature: float, top_k: int | None) -> None:
    """Pearson's statistic of 100,000 draws: it exceeds mean + 5 deviations of its distribution once in 100,000 seeds."""
    model = GPT2(GPT2Config(vocab_size=9, context=8, layers=1, heads=1, width=4))
    logits = torch.tensor([1.0, -2.0, 0.5, 3.0, 2.0, -1.0, 0.0, 1.5, 2.5])
    kept = logits.topk(min(top_k or 9, 9)).indices
    probability = torch.zeros(9, dtype=torch.float64)
    probability[kept] = (logits[kept].double() / temperature).softmax(-1)
    draws = 100_000
    torch.manual_seed(11)
    tokens = model.choose(logits.expand(draws, 1, 9), temperature, top_k)
    assert tokens.shape == (draws, 1)
    counts = tokens.flatten().bincount(minlength=9)
    assert set(counts.nonzero().flatten().tolist()) == set(kept.tolist())
    expected = probability[kept] * draws
    freedom = len(kept) - 1
    assert float(((counts[kept] - expected) ** 2 / expected).sum()) < freedom + 5 * (2 * freedom) ** 0.5


def test_samples_depend_on_torchs_seed_alone() -> None:
    config = PRESETS["tiny"]
    model = build_model(config, random_state(config, 0))
    model.allocate_cache(1, 64)
    prompt = random_prompt(config, 1, 8, seed=0)
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(generate(eager(model, Demand(Sampling(1.0, 50))), prompt, 30).tokens.tolist())
    assert runs[0] == runs[1] != runs[2]


def test_a_cache_that_was_used_before_changes_nothing() -> None:
    config = PRESETS["tiny"]
    model = build_model(config, random_state(config, 0))
    prompt = random_prompt(config, 1, 16, seed=0)
    model.allocate_cache(1, 64)
    first, second = (generate(eager(model, Demand()), prompt, 40).tokens for _ in range(2))
    assert first.tolist() == second.tolist()


def test_the_cache_and_the_mask_keep_their_addresses() -> None:
    config = PRESETS["tiny"]
    model = build_model(config, random_state(config, 0))
    model.allocate_cache(1, 60)
    addresses = [buffer.data_ptr() for buffer in model.buffers()]
    assert len(addresses) == 2 * config.layers + 1
    generate(eager(model, Demand()), random_prompt(config, 1, 4, seed=0), 30)
    assert [buffer.data_ptr() for buffer in model.buffers()] == addresses


def test_the_cache_follows_dtype_and_is_no_part_of_the_state() -> None:
    config = PRESETS["tiny"]
    model = build_model(config, random_state(config, 0)).to(torch.float16)
    names = set(model.state_dict())
    model.allocate_cache(2, 20)
    assert {buffer.dtype for buffer in model.buffers()} == {torch.float16}
    assert model.blocks()[0].attn.cache.keys.shape == (2, 2, 24, 32)
    assert set(model.state_dict()) == names
    with pytest.raises(ValueError, match="longer than the context"):
        model.allocate_cache(1, config.context + 1)


@pytest.mark.parametrize(
    ("name", "millions"), [("gpt2", 124.4), ("gpt2-medium", 354.8), ("gpt2-large", 774.0), ("gpt2-xl", 1557.6)]
)
def test_presets_have_the_published_size(name: str, millions: float) -> None:
    assert parameter_count(PRESETS[name]) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("wrong", [{"width": 65}, {"layers": 0}, {"vocab_size": -1}])
def test_impossible_shapes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must be at least 1|not a multiple"):
        GPT2Config(**{"heads": 2, "width": 64, **wrong})
