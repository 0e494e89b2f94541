"""What the fork server imports once for all run processes. No model, no thread: imports, and tables that libraries
build when they first need them."""

import gc
from contextlib import suppress
from importlib import import_module

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
