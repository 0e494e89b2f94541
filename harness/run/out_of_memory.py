"""What a run that ran out of memory tells the user: which settings of its recipe to lower."""

from __future__ import annotations

import sys

from harness.errors import message_of
from harness.recipe.recipe import Recipe

SIGNS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "cannot allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "No available memory for the cache blocks",
    "less than desired GPU memory utilization",
)
"""In messages of torch (CUDA, CPU), the system and vLLM."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that memory ran out."""
    torch = sys.modules.get("torch")
    kinds = (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        if isinstance(at, kinds) or any(sign in message_of(at) for sign in SIGNS):
            return True
        seen.add(id(at))
        at = at.__cause__ or at.__context__
    return False


def settings_to_lower(recipe: Recipe, workers: int) -> str:
    """The settings that need less memory, those first that change no result.

    Args:
        recipe: of the run.
        workers: runs side by side that share the memory; 1 where each has a GPU of its own.
    """
    train, lower = recipe.train, list[str]()
    if train.batch_size > 1:
        lower.append(
            f"train.batch_size ({train.batch_size}; raise train.gradient_accumulation, "
            f"{train.gradient_accumulation}, by as much)"
        )
    sizes = {
        "generation_batch_size": recipe.generation_batch_size,
        "scoring_batch_size": recipe.scoring_batch_size,
        "train.max_length": train.max_length,
    }
    lower += [f"{key} ({value:,})" for key, value in sizes.items() if value > 1]
    lower = [f"--workers ({workers})", *lower] if workers > 1 else lower
    more = ["set train.gradient_checkpointing: true"] if train.gradient_checkpointing is False else []
    more += ["set train.lora"] if train.lora is None else []
    return ", or ".join([f"lower {', '.join(lower)}", *more])
