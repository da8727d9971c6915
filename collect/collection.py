"""In which order does a collection work?

It builds each variant, starts it up and checks its accuracy. It warms all of them up and times them in turns. Then it profiles
each one and writes its files.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tracekit.errors import TracekitError
from tracekit.manifest import Accuracy, Timings

from . import accuracy, bench, environment, record
from .candidate import Candidate, SharedWeights
from .failures import explained
from .record import Measured
from .session import Session
from .variants import BASELINE, Variant
from .weights import detokenize
from .workload import Generation

# There are this many times fewer runs with events than timed runs. Each gives the latency of every token, so a few are enough.
# They are separate because events slow the host down a little.
_EVENT_SHARE = 4


@dataclass(frozen=True)
class Ready:
    """A candidate that ran once and computes the right result.

    `held_bytes` is what stays on the device for it between runs: its weights, its cache, and whatever a compiler keeps.
    """

    candidate: Candidate
    startup_ns: int
    held_bytes: int
    accuracy: Accuracy

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.candidate.variant.name


def collect(session: Session, variants: Sequence[Variant]) -> list[Path]:
    """Measure the variants in turns, then write the files of each: both or neither. Returns the traces, in order.

    A variant that cannot be built or compiled, or is not accurate enough, drops out, and the others continue. The first such
    failure is raised at the end. Any other error ends the collection. If the collection ends with an error, a notice says which
    variants are done.
    """
    done: dict[str, Path] = {}
    with _accounted(session, variants, done), environment.alone_on(session.device), environment.tf32(session.options.tf32):
        failures = _collect(session, variants, done)
        if failures:
            raise failures[0]
    return list(done.values())


def _collect(session: Session, variants: Sequence[Variant], done: dict[str, Path]) -> list[TracekitError]:
    """Put each variant's trace into `done` once it is written. Returns the errors of the variants that dropped out."""
    ready, failures = _prepare(session, variants)
    for measured in _measure(session, ready) if ready else []:
        variant = measured.candidate.variant
        with explained(variant, session.device):
            trace, manifest = record.write(session, measured)
        done[variant.name] = trace
        session.console.result(trace, manifest)
    return failures


@contextmanager
def _accounted(session: Session, variants: Sequence[Variant], done: Mapping[str, Path]) -> Iterator[None]:
    """If an error or Ctrl-C leaves the block, say which variants are done and which are not."""
    try:
        yield
    except BaseException:
        rest = [variant.name for variant in variants if variant.name not in done]
        mend = "; --resume goes on with the rest" if done and rest else ""
        session.console.notice(f"done: {', '.join(done) or 'none'}; not done: {', '.join(rest) or 'none'}{mend}")
        raise


def _prepare(session: Session, variants: Sequence[Variant]) -> tuple[list[Ready], list[TracekitError]]:
    """Build each variant, run it once and check its accuracy.

    The errors of those that fail are shown to the user, and returned.
    """
    ready: list[Ready] = []
    failures: list[TracekitError] = []
    weights = SharedWeights(session.spec.config, session.weights.state, session.device)
    with explained(BASELINE, session.device):
        reference = weights.build(BASELINE, replace(session.assignment, sampling=None, attention="sdpa"))
    for variant in variants:
        try:
            with explained(variant, session.device):
                ready.append(_start(session, variant, weights, reference))
        except TracekitError as error:
            failures.append(error)
            _forget_frames(error)
            if len(variants) > 1:
                session.console.notice(f"{error}; {variant.name} drops out")
    del reference, weights  # each model keeps the tensors that it still needs
    environment.free_memory(session.device)
    return ready, failures


def _forget_frames(error: BaseException) -> None:
    """Release what the failed functions held in memory, above all a model that did not fit."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__


def _start(session: Session, variant: Variant, weights: SharedWeights, reference: Candidate) -> Ready:
    advance = session.console.progress
    advance(f"{variant.name}: start-up", 0, 2)
    weights.load(variant.dtype)
    before = bench.held_memory(session.device)
    candidate = weights.build(variant, session.assignment)
    startup_ns = candidate.run(min(2, session.options.new_length)).total_ns
    environment.free_memory(session.device)
    held = bench.held_memory(session.device) - before + weights.nbytes(variant.dtype)
    advance(f"{variant.name}: start-up", 1, 2)
    allowed = accuracy.bound(variant.weights or variant.dtype, session.options.tf32)
    judged = accuracy.compare(candidate, reference, session.options.new_length, allowed)
    accuracy.require(judged, variant.name)
    advance(f"{variant.name}: start-up", 2, 2)
    return Ready(candidate, startup_ns, held, judged)


def _measure(session: Session, ready: Sequence[Ready]) -> list[Measured]:
    """Time all candidates in turns. Then take the measurements that would disturb the timed runs, in separate runs."""
    timed = {one.name: partial(one.candidate.run, session.options.new_length) for one in ready}
    _in_turns(session, "warm-up", timed, session.warmup)
    with bench.without_garbage_collection():
        runs = _in_turns(session, "timed runs", timed, session.repeats)
    latencies = _latencies(session, ready)
    timings = {
        one.name: replace(
            bench.summarise(
                runs[one.name],
                startup_ns=one.startup_ns,
                warmup_runs=session.warmup,
                prompt_tokens=session.prompt.shape[1],
            ),
            event_token=bench.describe(latencies[one.name]) if latencies.get(one.name) else None,
            peak_memory_bytes=_peak_memory(session, one),
        )
        for one in ready
    }
    return [
        Measured(one.candidate, one.accuracy, _compared(session, one, timings), _text(session, runs[one.name][-1]))
        for one in ready
    ]


def _in_turns(
    session: Session, label: str, turns: Mapping[str, Callable[[], bench.Result]], rounds: int
) -> dict[str, list[bench.Result]]:
    return bench.take_turns(turns, rounds, partial(session.console.progress, label))


def _latencies(session: Session, ready: Sequence[Ready]) -> dict[str, list[float]]:
    """Nanoseconds from one token to the next for each candidate, by CUDA events.

    Empty if there are no events or no second token.
    """
    tokens = session.options.new_length
    if session.device.type != "cuda" or tokens < 2:
        return {}

    def turn(candidate: Candidate) -> list[float]:
        return bench.event_latencies(lambda mark: candidate.run(tokens, mark=mark), tokens)

    turns = {one.name: partial(turn, one.candidate) for one in ready}
    rounds = _in_turns(session, "token latencies", turns, -(-session.repeats // _EVENT_SHARE))
    return {name: [latency for run in runs for latency in run] for name, runs in rounds.items()}


def _peak_memory(session: Session, one: Ready) -> int | None:
    extra = bench.extra_memory(partial(one.candidate.run, session.options.new_length), session.device)
    return None if extra is None else one.held_bytes + extra


def _compared(session: Session, one: Ready, timings: Mapping[str, Timings]) -> Timings:
    """The timings of a candidate, together with what they are compared to in the same collection."""
    others = tuple(name for name in timings if name != one.name)
    own = replace(timings[one.name], interleaved_with=others)
    if BASELINE.name not in others:
        return own
    return replace(
        own,
        baseline=record.run_name(session, BASELINE),
        reduction_percent=bench.reduction_percent(own, timings[BASELINE.name]),
    )


def _text(session: Session, generation: Generation) -> str | None:
    """The text of the batch's first sequence; None if the prompt was not a text."""
    return None if session.options.prompt is None else detokenize(session.spec, generation.tokens[0].cpu())
