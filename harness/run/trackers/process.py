"""A tracker has a process of its own: what it imports, prints, waits for and fails at reaches no run and no result."""

from __future__ import annotations

import multiprocessing
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from harness.errors import UserError
from harness.run.child import holding_ctrl_c, ignore_ctrl_c
from harness.run.trackers.keeper import Keeper
from harness.run.trackers.kinds import KINDS, Tracker
from harness.run.trackers.messages import Answer, Message

READY_S = 120.0
"""How long a tracker's package may take to be imported."""

AGAIN = "; the same command sends the rest"

_SECRET = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(?<=[?&])([^=&\s]+)=[^&\s'\"]+|(?<=://)[^/@\s]+@")


def redacted(text: str, environment: Mapping[str, str]) -> str:
    """One line without secrets: values of variables whose name says that they are one, and what addresses carry.

    Args:
        text: that a tracker raised or warned with.
        environment: variables of this process.
    """
    line = " ".join(text.split())
    secrets = {value for name, value in environment.items() if _SECRET.search(name) and len(value) >= 6}
    for value in sorted(secrets, key=len, reverse=True):
        line = line.replace(value, "***")
    return _IN_ADDRESS.sub("***", line)[:300]


def serve(make: Callable[[], Tracker], records: Path, connection: Connection) -> None:
    """Take messages until None, or the end of who sends them; answer as :class:`Answer` says.

    Args:
        make: imports a tracker.
        records: folder of the records of what was sent.
        connection: to the comparison.
    """

    def answer(kind: Any, text: str = "") -> None:
        with suppress(OSError):  # the comparison may have ended
            connection.send(Answer(kind, redacted(text, os.environ)))

    try:
        tracker = make()
    except UserError as error:
        return answer("refused", str(error))
    except Exception as error:  # noqa: BLE001 - whatever a package raises
        return answer("refused", f"it cannot be used here ({type(error).__name__}: {error})")
    answer("ready")
    keeper = Keeper(tracker, records)
    try:
        while (message := _next(connection)) is not None:
            keeper.take(message)
        keeper.close()
    except Exception as error:  # noqa: BLE001 - whatever a package raises
        keeper.record()
        return answer("failed", f"{type(error).__name__}: {error}")
    return answer("done")


def _next(connection: Connection) -> Message | None:
    try:
        message: Message | None = connection.recv()
    except EOFError:
        return None
    return message


def _body(name: str, records: str, connection: Connection) -> None:
    """The process: no input, no output, and a tracker's first warning as a notice."""
    ignore_ctrl_c()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    _pass_on_first_warning(name, connection)
    serve(KINDS[name], Path(records), connection)
    os._exit(0)  # threads and exit hooks of the packages may wait for a network


def _pass_on_first_warning(package: str, connection: Connection) -> None:
    """Trackio goes on after a failure and warns of it."""
    warned = threading.Event()

    def show(message: Any, category: Any, filename: str, *_: Any, **__: Any) -> None:
        if issubclass(category, UserWarning) and package in Path(filename).parts and not warned.is_set():
            warned.set()
            with suppress(OSError):
                connection.send(Answer("notice", redacted(str(message), os.environ)))

    warnings.showwarning = show


class TrackerProcess:
    """The process of a tracker, as the comparison sees it. Nothing here waits for it but :meth:`wait_ready` and
    :meth:`close`.

    Args:
        name: of the tracker.
        records: folder of the records of what was sent.
    """

    def __init__(self, name: str, records: Path) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")  # its environment is that of now
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_body, args=(name, str(records.resolve()), theirs), name=f"tracker-{name}", daemon=True
        )
        with holding_ctrl_c():
            self._process.start()
        theirs.close()
        self._outbox: SimpleQueue[Message | None] = SimpleQueue()
        self._over = False
        threading.Thread(target=self._pump, daemon=True).start()

    def wait_ready(self) -> None:
        """Wait until the tracker's package is imported.

        Raises:
            UserError: it cannot be used.
        """
        answer = self._answer(READY_S)
        while answer is not None and answer.kind == "notice":
            answer = self._answer(READY_S)
        if answer is None or answer.kind != "ready":
            self.kill()
            reason = answer.text if answer else f"it was not ready after {READY_S:.0f} s"
            text = reason if reason.startswith(self.name) else f"{self.name}: {reason}: leave it out of report_to"
            raise UserError(text)

    def send(self, message: Message) -> None:
        """Hand over a message, without waiting for anything."""
        if not self._over:
            self._outbox.put(message)

    def notice(self) -> str:
        """What there is to tell the user now; "" if nothing."""
        answer = None if self._over else self._answer(0)
        if answer is None:
            return ""
        if answer.kind == "notice":
            return f"{self.name} warns: {answer.text}"
        self.kill()
        return f"{self.name} takes no more ({answer.text}): the comparison goes on without it{AGAIN}"

    def finish(self) -> None:
        """No message follows."""
        self._outbox.put(None)

    def close(self, patience: float) -> str:
        """Wait until the tracker has finished; :meth:`finish` comes before.

        Args:
            patience: seconds to wait for it at most; then it is ended.

        Returns:
            what there is to tell the user; "" if nothing.
        """
        notices, deadline = [], time.monotonic() + patience
        while not self._over:
            answer = self._answer(max(0.0, deadline - time.monotonic()))
            if answer is not None and answer.kind == "notice":
                notices.append(f"{self.name} warns: {answer.text}")
                continue
            self.kill()
            if answer is None:
                notices.append(f"{self.name} did not take everything within {patience:.0f} s{AGAIN}")
            elif answer.kind != "done":
                notices.append(f"{self.name} did not take everything ({answer.text}){AGAIN}")
        return "\n".join(notices)

    def kill(self) -> None:
        """End the process."""
        self._over = True
        self.finish()
        self._process.join(1)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _answer(self, seconds: float) -> Answer | None:
        """The next answer, if it comes in time. A process that ended without one has failed."""
        try:
            return Answer(*self._connection.recv()) if self._connection.poll(seconds) else None
        except (EOFError, OSError):
            return Answer("failed", "its process ended")

    def _pump(self) -> None:
        """Body of the thread that hands messages over: a full pipe keeps only it waiting."""
        try:
            while (message := self._outbox.get()) is not None:
                self._connection.send(message)
            self._connection.send(None)
        except OSError:
            return  # the process has ended, which its last answer tells
