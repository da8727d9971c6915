"""Does the launching thread wait for a lock, or write messages, while the GPU waits?"""

from __future__ import annotations

import re

import numpy as np

from ...activity.idle_activity import around, idle_pieces
from ...activity.program import item_shares
from ...trace.arrays import Bools
from ...trace.trace import Category
from ..facts import Facts
from ..finding import Answer, CannotTell, Finding
from ..reasons import Reason
from .activities import functions, innermost, named, of_reasons, share_of, spread
from .needs import CALLS, GPU, needs

LOCK = re.compile(
    r"<built-in method (?:acquire|__enter__) of _thread\.(?:lock|RLock)"
    r"|.*\b(?:threading\.py\(\d+\): (?:wait|acquire|join|_wait_for\w*)|queue\.py\(\d+\): (?:get|put)"
    r"|multiprocessing/(?:synchronize|connection|queues)\.py\(\d+\)|concurrent/futures/_base\.py\(\d+\): (?:result|wait))"
    r"|(?:pthread_(?:mutex|cond|rwlock)|sem_(?:timed)?wait|futex|take_gil)"
)
"""Matches the names of functions in which a thread waits for another one."""
WRITES = re.compile(
    r"<built-in function print>|<built-in method (?:write|writelines|flush) of _io\."
    r"|.*\b(?:logging/(?:__init__|handlers)|(?:tqdm|wandb|tensorboard|tensorboardX|mlflow|loguru|rich|torch/_tensor_str)(?:/\w+)*)"
    r"\.py\(\d+\)"
)
"""Matches the names of functions that write messages, progress bars and logs."""
FUNCTIONS = (Category.PYTHON, Category.RUNTIME, Category.DRIVER, Category.ANNOTATION)
"""What a function that waits or writes is recorded as."""


@needs(GPU, CALLS)
def lock_waits(facts: Facts) -> Answer:
    """The launching thread waits for another thread or process while the GPU waits for its launches."""
    return _finding(
        facts,
        LOCK,
        (Reason.ELSE,),
        code="lock_waits",
        title="The GPU waits while the launching thread waits for a lock",
        doing="while the launching thread waits for a lock, a queue or another thread",
        action="Let the launching thread wait for nobody: hand results over through a queue that it reads without blocking "
        "(get_nowait), prepare the next step's input before it is needed, and give threads that compute in Python a process of "
        "their own (multiprocessing), because they share the interpreter's lock.",
        snippet="",
    )


@needs(GPU, CALLS)
def logging(facts: Facts) -> Answer:
    """The launching thread prints or logs while the GPU waits for its launches."""
    return _finding(
        facts,
        WRITES,
        (Reason.ELSE, Reason.LAUNCHING),
        code="logging",
        title="The GPU waits while the host writes messages",
        doing="while the launching thread prints, logs or draws a progress bar",
        action="Log once in many steps, hand messages to another thread (logging.handlers.QueueHandler), and keep figures on "
        "the device until they are logged: printing a tensor copies it and launches kernels of its own.",
        snippet="if step % 100 == 0:\n    logger.info('loss %s', loss.item())",
    )


def stalled_ns(facts: Facts) -> int:
    """How much idle time outside of operators lies in functions that wait for a lock or write messages, in ns."""
    pieces, late = idle_pieces(facts.trace), of_reasons(facts, Reason.ELSE)
    mine = late & (_inside(facts, LOCK) | _inside(facts, WRITES)) if _has_stacks(facts) else np.zeros_like(late)
    return int((pieces["end_ns"] - pieces["start_ns"])[mine].sum())


def _has_stacks(facts: Facts) -> bool:
    return len(facts.trace.where(Category.PYTHON)) > 0


def _inside(facts: Facts, pattern: re.Pattern[str]) -> Bools:
    """Which of `idle_pieces` lie in a function that matches, or in something that it called."""
    trace = facts.trace
    activity, rows = idle_pieces(trace)["activity"], trace.where(*FUNCTIONS)
    found, matches = np.zeros(len(activity), dtype=np.bool_), trace.strings_of(rows, pattern.match)
    if not matches.any():
        return found
    is_match = np.zeros(len(trace) + 1, dtype=np.bool_)
    is_match[rows] = matches[trace.events["name"][rows]]
    current, outer = np.where(activity >= 0, activity, -1), np.append(around(trace), -1)
    while (current >= 0).any():
        found |= is_match[current] & (current >= 0)
        current = outer[current]
    return found


def _finding(
    facts: Facts,
    pattern: re.Pattern[str],
    wanted: tuple[Reason, ...],
    *,
    code: str,
    title: str,
    doing: str,
    action: str,
    snippet: str,
) -> Answer:
    """The finding on the idle time for these reasons inside functions that match: `doing` says what the host does then."""
    limits = facts.thresholds
    if facts.share(facts.reason_ns(*wanted)) < limits.stall:
        return None
    chosen, pieces = _inside(facts, pattern) & of_reasons(facts, *wanted), idle_pieces(facts.trace)
    waited = int((pieces["end_ns"] - pieces["start_ns"])[chosen].sum())
    if facts.share(waited) < limits.stall:
        late = facts.share(facts.reason_ns(Reason.ELSE)) >= limits.host_late
        return (
            CannotTell(code, "no Python functions were recorded (with_stack=True)") if late and not _has_stacks(facts) else None
        )
    share, rows, lines = item_shares(facts.trace, facts.played, chosen), innermost(facts, chosen), functions(facts, chosen)
    saved = facts.saved(lambda program: program.without_share(share))
    inside = f"; inside {lines[0]['function']}" if lines else ""
    return Finding(
        code=code,
        title=title,
        severity=facts.severity(saved),
        affected_ns=waited,
        **saved.fields,
        evidence=f"{share_of(facts, waited)}, is idle {doing}{spread(facts, rows)}: {named(rows)}{inside}",
        action=action,
        snippet=snippet,
        reasoning="Idle time inside these functions and what they call. The program is played again without this work of the "
        "host, as far as the GPU was idle in it.",
        rows=(*rows, *lines),
    )
