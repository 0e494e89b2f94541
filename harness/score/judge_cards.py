"""The file of a judge's card, ``results/judges/<key>.json``: how far a judge can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from harness.errors import UserError
from harness.score.results import SCHEMA_VERSION, Columns, Metric, Record
from harness.store.json_files import read_json


class CardSection(Record):
    """A judge on one set of pairs with known preferences, asked in one way. No text of a pair, only numbers.

    ``data``: file name and hash, hash and number of the pairs used. ``items``: per pair, the judge's answer in each
    order and the lengths. ``usage``: calls, tokens, cost, seconds.
    """

    id: str
    data: dict[str, Any]
    protocol: dict[str, Any]
    command: str
    date: str
    metrics: list[Metric]
    items: Columns
    usage: dict[str, Any]

    def metric(self, name: str) -> Metric | None:
        """A figure by name; None if it was not measured."""
        return next((m for m in self.metrics if m.name == name), None)


class JudgeCard(Record):
    """Everything measured of one judge; ``key`` is the digest of its identity, which leaderboards print."""

    schema_version: Literal[1] = 1
    key: str
    judge: dict[str, Any]
    sections: list[CardSection] = []


def read_card(path: Path) -> JudgeCard:
    """Read a judge's card.

    Raises:
        UserError: the file is no card of this schema version.
    """
    try:
        return JudgeCard.model_validate(read_json(path))
    except (ValidationError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"{path} is no judge card of schema version {SCHEMA_VERSION} ({reason}): remove it") from None
