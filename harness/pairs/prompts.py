"""The prompts of a recipe, split into training, tuning, evaluation and held-out parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

from harness.answer.chat import Prompt
from harness.errors import UserError
from harness.oracles.constraints import load_prompts
from harness.pairs.cleaning import Letters
from harness.pairs.imported import imported_pairs
from harness.recipe.recipe import DataSpec, PairsSpec
from harness.store.stages import Store


def splits(data: DataSpec | PairsSpec, store: Store | None = None) -> Mapping[str, Sequence[Prompt]]:
    """The prompts that a recipe uses, by part. The parts are disjoint.

    ``train`` and ``tune`` come from the training file, ``eval`` and ``heldout`` from the evaluation file. Imported
    pairs are divided by :mod:`harness.pairs.imported`, and read as they are asked for.

    Args:
        data: of the recipe.
        store: see :func:`harness.pairs.imported.imported_pairs`.

    Raises:
        UserError: the recipe asks for more prompts than there are.
    """
    if data.imported:
        return imported_pairs(data, store).parts
    train, evaluation = load_prompts("train"), load_prompts("eval")
    for keys, rows in ((("train_prompts", "tune_prompts"), train), (("eval_prompts", "heldout_prompts"), evaluation)):
        requested = sum(getattr(data, key) for key in keys)
        if requested > len(rows):
            raise UserError(
                f"data.{keys[0]} + data.{keys[1]} asks for {requested} prompts, {len(rows)} exist: lower one"
            )
    return {
        "train": train[: data.train_prompts],
        "tune": train[len(train) - data.tune_prompts :],
        "eval": evaluation[: data.eval_prompts],
        "heldout": evaluation[data.eval_prompts : data.eval_prompts + data.heldout_prompts],
    }


def letters_of(data: DataSpec | PairsSpec) -> Letters:
    """Letters of a recipe's training prompts and, where they are imported, of their answers (else 0)."""
    if data.imported:
        return imported_pairs(data).letters
    lengths = [len(prompt["prompt"]) for prompt in splits(data)["train"]]
    return Letters(sum(lengths) / len(lengths), 0, max(lengths), max(lengths))


class PromptsById(Mapping[str, Prompt]):
    """Prompts by their ids, each read when it is asked for.

    Args:
        prompts: gives the prompts, when the first one is asked for.
    """

    def __init__(self, prompts: Callable[[], Sequence[Prompt]]) -> None:
        self._load = prompts

    @cached_property
    def _prompts(self) -> Sequence[Prompt]:
        return self._load()

    @cached_property
    def _places(self) -> dict[str, int]:
        return {prompt["id"]: place for place, prompt in enumerate(self._prompts)}

    def __getitem__(self, id_: str) -> Prompt:
        return self._prompts[self._places[id_]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
