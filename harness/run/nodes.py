"""The nodes of a plan: one a stage, as data that can be written as JSON.

A node says which stage it is (its kind tells who builds it, its inputs decide its key), which stages it reads, and the
settings that its builder needs beside the recipe. So a single node can be handed to another process or machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.recipe.search import Point
from harness.store.stages import Stage, Store


@dataclass(frozen=True)
class Node:
    """One stage of a run.

    Attributes:
        label: how plans and progress call it.
        stage: its kind, and everything that decides its content.
        needs: keys of the stages that it reads.
        settings: what its builder needs beside the recipe (JSON): a learning rate, a seed, a benchmark's name.
    """

    label: str
    stage: Stage
    needs: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Key of its stage."""
        return self.stage.key

    def dump(self) -> dict[str, Any]:
        """JSON form."""
        stage = {"kind": self.stage.kind, "inputs": self.stage.inputs}
        return {"label": self.label, "stage": stage, "needs": list(self.needs), "settings": dict(self.settings)}

    @classmethod
    def load(cls, value: Mapping[str, Any]) -> Node:
        """From its JSON form."""
        stage = Stage(value["stage"]["kind"], value["stage"]["inputs"])
        return cls(value["label"], stage, tuple(value["needs"]), value["settings"])


@dataclass(frozen=True)
class State:
    """What the store holds of a node: whether it is finished, and how many judge calls in it still want an answer."""

    done: bool = False
    unanswered: int = 0

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do."""
        return self.done and not self.unanswered


def states_of(nodes: Iterable[Node], store: Store) -> dict[str, State]:
    """What a store holds of nodes now, by key."""
    states = {}
    for node in nodes:
        done = store.done(node.stage)
        judged = done and node.stage.kind == "judgments"  # the one kind that may wait for answers
        states[node.key] = State(done, store.unanswered(node.stage) if judged else 0)
    return states


def set_aside_short(nodes: EvaluationNodes, store: Store) -> None:
    """Move rows of a benchmark aside that are fewer than they must be: one judged row comes of one answer.

    Stages that were written with hashes are known to be whole.
    """
    answers, judgments = nodes.answers.stage, nodes.judgments.stage
    if not (store.done(answers) and store.done(judgments)):
        return
    if store.verified(answers) and store.verified(judgments):
        return
    counts = {stage.key: _rows_in(store.path(stage) / "rows.jsonl") for stage in (answers, judgments)}
    most = max(counts.values())
    for stage in (answers, judgments):
        if counts[stage.key] < most and not store.verified(stage):
            store.set_aside(stage, f"rows.jsonl has {counts[stage.key]:,} rows and must have {most:,}")


def _rows_in(path: Path) -> int:
    """Number of lines of a file."""
    with path.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


@dataclass(frozen=True)
class TrialNodes:
    """One point of the recorded search: training with seed 0, and its score on the tuning prompts."""

    point: Point
    train: Node
    tune: Node

    def dump(self) -> dict[str, Any]:
        """JSON form."""
        return {"point": self.point.record(), "train": self.train.dump(), "tune": self.tune.dump()}

    @classmethod
    def load(cls, value: Mapping[str, Any]) -> TrialNodes:
        """From its JSON form."""
        return cls(Point(**value["point"]), Node.load(value["train"]), Node.load(value["tune"]))


@dataclass(frozen=True)
class Winner:
    """The point that a search keeps. It is decided late: once the scores that it needs are there.

    Attributes:
        needs: keys of the trials' scores.
        point: None while a score is open, and for good if every trial diverged.
    """

    needs: tuple[str, ...] = ()
    point: Point | None = None


@dataclass(frozen=True)
class EvaluationNodes:
    """What a benchmark makes of a policy: answers, judged answers, and (late) verdicts against the reference's."""

    answers: Node
    judgments: Node
    versus: Node | None = None

    @property
    def nodes(self) -> list[Node]:
        """All that are known."""
        return [self.answers, self.judgments, *([self.versus] if self.versus else [])]
