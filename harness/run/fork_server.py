"""What a fork server, which imports this first, does otherwise than the command that began it."""

import sys
from types import TracebackType

from harness.run.child import ignore_ctrl_c


def _end_quietly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's fork server ends with a traceback if its command is killed while it asks for a process: leave it out."""
    if kind is not EOFError:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _end_quietly
ignore_ctrl_c()  # and so does each process that it begins
