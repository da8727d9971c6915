from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tracekit.collect.gpt2 import GPT2, PRESETS, GPT2Config, greedy_step, parameter_count  # noqa: E402
from tracekit.collect.weights import build_model, convert_state, random_state  # noqa: E402
from tracekit.collect.workload import generate, random_prompt  # noqa: E402

CONFIGS = [
    PRESETS["tiny"],
    GPT2Config(vocab_size=97, context=80, layers=1, heads=1, width=24),
    GPT2Config(vocab_size=301, context=96, layers=5, heads=3, width=96),
    GPT2Config(vocab_size=128, context=160, layers=3, heads=8, width=32),
]


def pair(config: GPT2Config, seed: int = 0):
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
    return theirs, build_model(config, convert_state(theirs.state_dict(), config))


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
def test_logits_equal_transformers_with_and_without_cache(config: GPT2Config, batch: int) -> None:
    theirs, ours = pair(config)
    tokens = random_prompt(config, batch, 45, seed=batch)
    with torch.no_grad():
        expected = theirs(tokens).logits
        plain = ours(tokens, torch.arange(45))
    torch.testing.assert_close(plain, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(cached_logits(ours, tokens, prompt_tokens=7), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_greedy_tokens_equal_transformers(config: GPT2Config) -> None:
    theirs, ours = pair(config, seed=1)
    prompt = random_prompt(config, 2, 9, seed=1)
    new_tokens = min(100, config.context - 9)
    expected = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=new_tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )[:, 9:]
    ours.allocate_cache(2, 9 + new_tokens)
    generation = generate(lambda tokens, positions: greedy_step(ours, tokens, positions), prompt, new_tokens)
    assert generation.tokens.tolist() == expected.tolist()
    assert 0 < generation.first_token_ns < generation.total_ns


def test_a_cache_that_was_used_before_changes_nothing() -> None:
    config = PRESETS["tiny"]
    model = build_model(config, random_state(config, 0))
    prompt = random_prompt(config, 1, 16, seed=0)
    model.allocate_cache(1, 64)
    first, second = (generate(lambda *step: greedy_step(model, *step), prompt, 40).tokens for _ in range(2))
    assert first.tolist() == second.tolist()


def test_the_cache_and_the_mask_keep_their_addresses() -> None:
    config = PRESETS["tiny"]
    model = build_model(config, random_state(config, 0))
    model.allocate_cache(1, 60)
    addresses = [buffer.data_ptr() for buffer in model.buffers()]
    assert len(addresses) == 2 * config.layers + 1
    generate(lambda *step: greedy_step(model, *step), random_prompt(config, 1, 4, seed=0), 30)
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
