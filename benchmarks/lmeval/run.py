"""One call of lm-eval as a library, and rows from what it logs."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from harness.benchmark import Row
from harness.errors import UserError

SEED = 1234  # lm-eval's own default for drawing examples


@contextmanager
def quiet() -> Iterator[None]:
    """lm-eval's warnings about each task stay out of the log (its errors do not), and it does not survey the machine
    after each call: that starts processes for seconds, and our results name the environment."""
    from lm_eval import evaluator

    logger = logging.getLogger("lm_eval")
    before, survey = logger.level, evaluator.add_env_info
    logger.setLevel(logging.ERROR)
    evaluator.add_env_info = lambda results: None
    try:
        yield
    finally:
        logger.setLevel(before)
        evaluator.add_env_info = survey


@contextmanager
def seeded() -> Iterator[None]:
    """Random numbers as lm-eval's command starts with them, also while tasks are built (some shuffle their options);
    afterwards as they were before."""
    import numpy as np
    import torch
    from lm_eval import evaluator

    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(evaluator.DEFAULT_RANDOM_SEED)
        np.random.seed(evaluator.DEFAULT_OTHER_SEED)
        torch.manual_seed(evaluator.DEFAULT_OTHER_SEED)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def evaluate_tasks(
    lm: Any, tasks: Sequence[Any], shots: int | None, samples: Mapping[str, Sequence[int]] | None, chat: bool
) -> dict[str, Any]:
    """lm-eval's own results, with samples, of tasks on a model object in memory.

    Args:
        lm: lm-eval's model interface.
        tasks: built tasks.
        shots: examples; None for each task's own number.
        samples: places in the test split by task, ascending; None for all. (lm-eval takes an empty list for all: name
            at least one of each task.)
        chat: the chat template is applied, each example a turn of its own.

    Raises:
        UserError: a metric needs data of NLTK that are not there.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    try:
        results: dict[str, Any] = simple_evaluate(
            model=lm,
            tasks=list(tasks),
            num_fewshot=shots,
            samples=None if samples is None else {name: list(places) for name, places in samples.items()},
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
            bootstrap_iters=0,
            fewshot_random_seed=SEED,
            task_manager=TaskManager(include_defaults=False),  # the tasks are built: its index of all others takes 14 s
        )
    except LookupError as error:
        missing = re.search(r"nltk\.download\('(\w+)'\)", re.sub(r"\x1b\[[0-9;]*m", "", str(error)))
        if missing is None:
            raise
        name = missing.group(1)
        raise UserError(f"lm-eval's metric needs NLTK's {name}: run python -m nltk.downloader {name}") from None
    return results


def sample_rows(results: Mapping[str, Any]) -> list[Row]:
    """One row an item (and filter), in the order of tasks and items: responses, target, metrics, and hashes of the
    item and of the prompt; the prompts themselves are left out, since they can be made again."""
    return [
        {
            "task": task,
            "doc_id": int(s["doc_id"]),
            "filter": s["filter"],
            "target": s["target"],
            "resps": s["filtered_resps"],
            "metrics": {name: _plain(s[name]) for name in s["metrics"]},
            "doc_hash": s["doc_hash"][:16],
            "prompt_hash": s["prompt_hash"][:16],
        }
        for task, samples in results["samples"].items()
        for s in sorted(samples, key=lambda s: s["doc_id"])
    ]


def _plain(value: Any) -> Any:
    """Numbers of numpy, and tuples, as JSON has them."""
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value
