"""Ctrl-C in the first moments of a process that a command begins: no traceback, and the process lives on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signals to hold back on Windows")

SLOW = """
import sys, time
from pathlib import Path
if WORD in " ".join(sys.orig_argv):
    Path(BEGAN).touch()
    end = time.monotonic() + 30
    while not Path(SENT).exists() and time.monotonic() < end:
        time.sleep(0.01)
"""
"""Runs before anything else in each new interpreter. One whose command holds the word waits until Ctrl-C was sent."""

FORK_SERVER = """
import os, signal
from harness.run.child import FORK_SERVER, processes

def report():
    held = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
    ignored = "ignored" if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else "not ignored"
    os.write(1, f"{ignored} {held}\\n".encode())  # one write: two may report at the same time

if __name__ == "__main__":
    FORK_SERVER[:] = FORK_SERVER[:1]
    try:
        context = processes()
    except KeyboardInterrupt:
        context = processes()
    while True:
        try:
            process = context.Process(target=report)
            process.start()
            process.join()
            break
        except KeyboardInterrupt:
            os.write(1, b"interrupted\\n")  # the process that was being begun may live, and report when it likes
    held = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
    os.write(1, f"held here: {held}\\n".encode())
"""

TRACKER = """
from pathlib import Path
from harness.errors import UserError
from harness.run.trackers.process import TrackerProcess

if __name__ == "__main__":
    tracker = None
    while True:
        try:
            tracker = tracker or TrackerProcess("tensorboard", Path("records"))
            tracker.wait_ready()
            print("it answers", flush=True)
            break
        except UserError as refusal:  # the package need not be installed
            print("it does not" if "not ready" in str(refusal) else "it answers", flush=True)
            break
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    tracker.kill()
"""


def interrupted(folder: Path, script: str, word: str) -> tuple[str, str]:
    """Output and errors of a script whose process group gets Ctrl-C while a new interpreter is at its first line."""
    mark, sent = folder / "began", folder / "sent"
    slow = SLOW.replace("WORD", repr(word)).replace("BEGAN", repr(str(mark))).replace("SENT", repr(str(sent)))
    (folder / "sitecustomize.py").write_text(slow, encoding="utf-8")
    (folder / "script.py").write_text(script, encoding="utf-8")
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    command = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        end = time.monotonic() + 30
        while not mark.exists() and command.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        assert mark.exists(), command.communicate(timeout=5)
        os.killpg(command.pid, signal.SIGINT)
        sent.touch()
        out, errors = command.communicate(timeout=60)
    finally:
        if command.poll() is None:
            os.killpg(command.pid, signal.SIGKILL)
            command.wait()
    return out, errors


def test_fork_server_at_its_first_line(tmp_path: Path) -> None:
    out, errors = interrupted(tmp_path, FORK_SERVER, "multiprocessing.forkserver")
    assert errors == ""
    assert set(out.splitlines()) - {"interrupted"} == {"ignored []", "held here: []"}  # in any order: see FORK_SERVER


def test_tracker_at_its_first_line(tmp_path: Path) -> None:
    out, errors = interrupted(tmp_path, TRACKER, "multiprocessing.spawn")
    assert (out.splitlines(), errors) == (["interrupted", "it answers"], "")
