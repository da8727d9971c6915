from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

torch = pytest.importorskip("torch")

from tracekit.collect.gpt2 import PRESETS  # noqa: E402
from tracekit.collect.variants import Demand, eager  # noqa: E402
from tracekit.collect.weights import build_model, random_state  # noqa: E402
from tracekit.collect.workload import (  # noqa: E402
    WORKLOADS,
    Next,
    generate,
    left_padded,
    prefill,
    random_prompt,
    recompute,
)

TINY = PRESETS["tiny"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small are no work to share: threads would only wait for each other, for long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def model():
    return build_model(TINY, random_state(TINY, 0))


def tokens_of(name: str, new_tokens: int) -> int:
    return new_tokens if WORKLOADS[name].decodes else 1


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_marks_and_annotates_each_step(name: str, model) -> None:
    events: list[str] = []

    @contextmanager
    def annotate(label: str):
        events.append(label)
        yield
        events.append("end")

    workload = WORKLOADS[name]
    if workload.cache:
        model.allocate_cache(3, 32)
    prompt = random_prompt(TINY, 3, 5, seed=0)
    before = prompt.clone()
    new_tokens = tokens_of(name, 4)
    generation = workload(eager(model, Demand()), prompt, new_tokens, annotate, lambda: events.append("mark"))
    assert events == ["prefill", "end", "mark"] + ["decode", "end", "mark"] * (new_tokens - 1)
    assert generation.tokens.shape == (3, new_tokens)
    assert generation.tokens.dtype == torch.int64
    assert 0 < generation.first_token_ns <= generation.total_ns
    assert torch.equal(prompt, before)
    assert workload.name == name
    assert workload.summary


def test_recompute_generates_what_the_cache_generates(model) -> None:
    step = eager(model, Demand())
    prompt = random_prompt(TINY, 2, 7, seed=1)
    plain = recompute(step, prompt, 100)
    once = prefill(step, prompt)
    model.allocate_cache(2, 107)
    cached = generate(step, prompt, 100)
    assert torch.equal(plain.tokens, cached.tokens)
    assert torch.equal(once.tokens, cached.tokens[:, :1])


def test_recompute_feeds_the_whole_sequence_each_step() -> None:
    seen = []

    def step(tokens, positions):
        seen.append((tokens.tolist(), positions.tolist()))
        return Next(tokens[:, -1:] + 1, positions[-1:] + 1, torch.zeros(1, 1, 9))

    assert recompute(step, torch.tensor([[5, 6]]), 3).tokens.tolist() == [[7, 8, 9]]
    assert seen == [([[5, 6]], [0, 1]), ([[5, 6, 7]], [0, 1, 2]), ([[5, 6, 7, 8]], [0, 1, 2, 3])]


def test_generate_feeds_one_token_each_step_after_the_prompt() -> None:
    seen = []

    def step(tokens, positions):
        seen.append((tokens.tolist(), positions.tolist()))
        return Next(tokens[:, -1:] + 1, positions[-1:] + 1, torch.zeros(1, 1, 9))

    assert generate(step, torch.tensor([[5, 6]]), 3).tokens.tolist() == [[7, 8, 9]]
    assert seen == [([[5, 6]], [0, 1]), ([[7]], [2]), ([[8]], [3])]


def test_a_prefill_has_one_token(model) -> None:
    with pytest.raises(ValueError, match="1 new token, not 2"):
        prefill(eager(model, Demand()), random_prompt(TINY, 1, 5, seed=0), 2)


def test_prompts_are_padded_at_their_left() -> None:
    tokens, padding = left_padded([torch.tensor([1, 2, 3]), torch.tensor([4]), torch.tensor([5, 6])])
    assert tokens.tolist() == [[1, 2, 3], [0, 0, 4], [0, 5, 6]]
    assert padding.tolist() == [0, 2, 1]
