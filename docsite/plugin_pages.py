"""One section for every built-in method, benchmark and oracle, from what they say of themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from docsite.meanings import markdown
from docsite.tables import key_table, table
from harness.methods.base import Method
from harness.run.plugins import OURS, plugins

METHODS = """# Methods: reference

One section for every built-in method, made from the code: what it says of itself, its paper, and its options with
their defaults. What each optimises, when to use it and what a step costs: [Methods](../methods.md). A recipe sets
options under `method_options`, or in `variants` for several rows of one method. `sail-bench methods` prints this list
for your installation, plugins included.
"""

BENCHMARKS = """# Benchmarks: reference

One section for every built-in benchmark, made from the code. A recipe lists them under `benchmarks:`, each with its
options. *Mini* sets were written for this project in the official schemas; their numbers compare with nothing outside
their own table. `sail-bench benchmarks` prints this list for your installation, plugins included.
"""

ORACLES = """# Oracles: reference

One section for every built-in oracle, made from the code. A recipe names one in `oracle:` (it labels pairs in
training) and perhaps another in `eval_oracle:` (it gives the reward in evaluation). `sail-bench oracles` prints this
list for your installation, plugins included.
"""

NEEDS = {
    "weights": "log-probabilities of the policy, so a model behind an endpoint is left out",
    "task": "the recipe's own evaluation prompts, held-out pairs and oracle",
    "start": "the start policy's answers, as its baseline",
    "reference": "the answers of the recipe's reference row, if a pairwise oracle evaluates",
}

JUDGED = {
    "none": "none",
    "local": "the start policy, by log-probability",
    "endpoint": "the model behind an endpoint that the recipe's `judge:` names",
}


def built_in(kind: str) -> Iterator[tuple[str, Any]]:
    """Names and classes of our own plugins of a kind (``methods``, ``benchmarks``, ``oracles``)."""
    for name, plugin in plugins(kind).items():
        if plugin.origin == OURS:
            yield name, plugin.load()


def methods_page() -> str:
    """Every method as Markdown."""
    text = [METHODS]
    for name, cls in built_in("methods"):
        facts = {
            "paper": _paper(cls.paper),
            "published settings": cls.published,
            "trains": "yes" if cls.trains else "no",
            "reads the start policy's log-probabilities": _yes(cls.reads_reference) if cls.trains else "",
            "a trained pair costs, in expectation": _spending(cls) if cls.trains else "",
            "grid of a search (`tune.trials`)": "; ".join(
                f"`{key}`: {', '.join(map(str, values))}" for key, values in cls.grid.items()
            ),
            "more": f"[when to use it](../methods.md#{name})",
        }
        text.append(_section(name, cls, facts, cls.Config))
    return "\n\n".join(text) + "\n"


def benchmarks_page() -> str:
    """Every benchmark as Markdown."""
    text = [BENCHMARKS]
    for name, cls in built_in("benchmarks"):
        benchmark = cls()
        facts = {
            "title in tables": benchmark.title,
            "set": benchmark.label,
            "judge": JUDGED[benchmark.judged_by],
            "needs": "; ".join(NEEDS[need] for need in sorted(benchmark.needs)) or "texts alone",
            "version of the protocol": str(benchmark.version),
        }
        text.append(_section(name, cls, facts, cls.Options))
    return "\n\n".join(text) + "\n"


def oracles_page() -> str:
    """Every oracle as Markdown."""
    text = [ORACLES]
    for name, cls in built_in("oracles"):
        facts = {
            "answers": "which of two answers is better" if cls.pairwise else f"a reward of one answer ({cls.unit})",
            "version": str(cls.version),
        }
        text.append(_section(name, cls, facts, cls.Options))
    return "\n\n".join(text) + "\n"


def _section(name: str, cls: type, facts: Mapping[str, str], options: type[BaseModel]) -> str:
    """A heading, what the class says of itself, facts that are there, and the options."""
    summary = cls.summary  # type: ignore[attr-defined]
    documented = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:")[0].split("\n\n")
    text = [f"## {name}", f"{summary[0].upper()}{summary[1:]}."]
    body = [markdown(paragraph) for paragraph in documented if not paragraph.startswith("``")]
    text += [paragraph for paragraph in body if paragraph.casefold().rstrip(".") != summary.casefold()]
    text.append(table(("", ""), [(fact, value) for fact, value in facts.items() if value]))
    text += ["Options:", key_table(options)] if options.model_fields else ["It has no options."]
    return "\n\n".join(part for part in text if part)


def _paper(address: str) -> str:
    if match := re.fullmatch(r"arXiv:(\S+)", address):
        return f"[arXiv {match[1]}](https://arxiv.org/abs/{match[1]})"
    return f"[{address}]({address})" if address.startswith("http") else address


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _spending(cls: type[Method]) -> str:
    spending = cls().spending()
    named = {
        "forwards with gradient": spending.rows,
        "stored pairs": spending.stored,
        "answers sampled": spending.sampled,
        "labels": spending.labelled,
        "forwards of the reference": spending.reference,
    }
    return ", ".join(f"{what}: {amount:g}" for what, amount in named.items() if amount)
