"""A recipe for one who has a model and preference pairs, and no recipe yet. Pure."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

MOST_PAIRS, MOST_EVALUATED, MOST_TUNED = 2000, 64, 8
LETTERS = 80


class QuickRecipe(NamedTuple):
    """What the recipe says.

    Attributes:
        name: of the comparison.
        model: the start policy, as a recipe names it.
        train: the training pairs, as a recipe names them; test: those to evaluate on.
        train_rows: how many training pairs there are.
        train_prompts: distinct prompts among them; test_prompts: among those to evaluate on.
        judge: a model that compares answers, behind an OpenAI-compatible endpoint; empty for none.
        judge_url: of its endpoint; empty for OpenAI's.
    """

    name: str
    model: str
    train: str
    test: str
    train_rows: int
    train_prompts: int
    test_prompts: int
    judge: str = ""
    judge_url: str = ""


def quick_name(*parts: str) -> str:
    """A name for a comparison, from those of what it is made of."""
    words = [re.sub(r"[^A-Za-z0-9._-]+", "-", part.rstrip("/").rpartition("/")[2]).strip("-._") for part in parts]
    return "-".join(word for word in words if word)[:LETTERS].rstrip("-._") or "quick"


def quick_text(given: QuickRecipe) -> str:
    """The YAML text of the recipe, with comments. Every value that a user gave is written as JSON, which YAML reads."""
    quoted = {name: json.dumps(value) for name, value in given._asdict().items()}
    evaluated = min(MOST_EVALUATED, max(1, given.test_prompts // 2))
    tuned = min(MOST_TUNED, max(1, given.train_prompts // 10))
    judged = _JUDGED.format(options=_judge_options(given)) if given.judge else _NOT_JUDGED
    return _TEXT.format(
        **{name: quoted[name] for name in ("name", "model", "train", "test")},
        pairs=max(8, min(MOST_PAIRS, given.train_rows)),
        tune_prompts=tuned,
        eval_prompts=evaluated,
        judged=judged,
        preference=_PREFERENCE if given.judge else "",
    )


def is_quick(text: str) -> bool:
    """Whether a recipe's text is as :func:`quick_text` writes it, whatever the values."""
    anything = "\0"
    values = dict.fromkeys(("name", "model", "train", "test", "tune_prompts", "eval_prompts", "pairs"), anything)
    forms = (_NOT_JUDGED, ""), (_JUDGED.format(options=anything), _PREFERENCE)
    texts = (_TEXT.format(**values, judged=judged, preference=preference) for judged, preference in forms)
    return any(re.fullmatch(re.escape(form).replace(anything, ".+"), text) for form in texts)


def _judge_options(given: QuickRecipe) -> str:
    url = f", base_url: {json.dumps(given.judge_url)}" if given.judge_url else ""
    return f"model: {json.dumps(given.judge)}{url}"


_TEXT = """\
# Made from a model and pairs. Change what you like: sail-bench new-recipe shows what else there is.
name: {name}
model: {model}
data:
  task: preferences
  train: {train}
  test: {test}
  tune_prompts: {tune_prompts}
  eval_prompts: {eval_prompts}
{judged}budgets:
  one-pass: {{axis: pairs, limit: {pairs}}}      # pairs that each method trains on
budget: one-pass
train: {{batch_size: 4, max_length: 512}}
tune:
  learning_rates: [5.0e-5]       # more than one are searched, which needs an oracle
methods: [start, dpo, simpo, sail-pp]
reference: dpo
benchmarks:                      # small sets; those that need a judge take the start policy
{preference}  mt_bench: {{}}
  alpaca_eval: {{}}
  arena_hard: {{}}
  mmlu: {{}}
  arc_challenge: {{}}
"""

_PREFERENCE = "  preference: {max_new_tokens: 256}      # your own prompts, judged pair by pair\n"

_JUDGED = """\
oracle: none                     # the pairs are labelled already
eval_oracle: {{name: llm_judge, options: {{{options}}}}}
"""

_NOT_JUDGED = "oracle: none                     # the pairs are labelled already\n"
