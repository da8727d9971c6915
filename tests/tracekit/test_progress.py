from __future__ import annotations

import os
import pty
import subprocess
import sys

CODE = """
import time
from tracekit.progress import PATIENCE_S, progress
with progress(2) as advance:
    advance("first.json")
    time.sleep({seconds})
    advance("second.json")
    time.sleep(0.3)
"""


def on_a_terminal(seconds: float) -> str:
    """What a terminal on standard error is shown."""
    leader, follower = pty.openpty()
    subprocess.run([sys.executable, "-c", CODE.format(seconds=seconds)], stderr=follower, check=True, timeout=30)
    os.close(follower)
    shown = b""
    try:
        while data := os.read(leader, 4096):
            shown += data
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(leader)
    return shown.decode()


def test_a_bar_appears_after_a_second() -> None:
    shown = on_a_terminal(1.3)
    assert "first.json" in shown
    assert "second.json" in shown


def test_short_work_shows_nothing() -> None:
    assert on_a_terminal(0.1) == ""


def test_nothing_is_shown_where_there_is_no_terminal() -> None:
    done = subprocess.run([sys.executable, "-c", CODE.format(seconds=1.3)], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
