"""What the fork server imports once for all run processes. No model, no thread: imports, and tables that libraries
build when they first need them."""

import gc
import signal
import sys
from contextlib import suppress
from importlib import import_module
from types import TracebackType

from harness.budget.spec import named_budgets
from harness.oracles.constraints import load_prompts
from harness.run.plugins import preload_ours
from harness.store.environment import library_versions

MODULES = (
    "torch",
    "transformers.models.llama.modeling_llama",
    "accelerate",
    "datasets",
    "peft",
    "trl",
    "sail.trainer",
    "harness.answer.policy",
    "harness.answer.template_check",
    "harness.judge.local",
    "harness.train.checks",
    "harness.train.trainer",
    "harness.run.process",
)


def _end_quietly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's fork server ends with a traceback if its command is killed while it asks for a process: leave it out."""
    if kind is not EOFError:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _end_quietly
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the command, which ends its processes; they begin so too

gc.disable()  # nothing of what is imported becomes garbage, and looking for it would take a sixth of the time
for _name in MODULES:
    import_module(_name)
with suppress(ImportError):  # of newer versions; the table is a thousand patterns to be compiled
    import peft.utils.transformers_weight_conversion  # noqa: F401
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("llama")
library_versions()
named_budgets()
for _split in ("train", "eval"):
    load_prompts(_split)
preload_ours()
gc.freeze()  # what is imported lives as long as the process: a run that collects garbage need not look at it
gc.enable()
