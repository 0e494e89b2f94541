"""``sail-bench published``: published SAIL numbers, and ours where the protocols match."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import json_option, results_option
from harness.cli.terminal import say, say_json


@click.command()
@results_option
@json_option
def published(results: Path | None, as_json: bool) -> None:
    """Published SAIL numbers with their sources, and ours beside them.

    Ours stands there only where model, benchmark, its version and the judge are the same; elsewhere it says why not.
    """
    from harness.errors import UserError
    from harness.report.board import Board
    from harness.report.published import beside_published
    from harness.report.published import published as numbers
    from harness.report.text import format_interval, format_number
    from harness.score.results import read_results, result_folders
    from harness.store.foreign_text import one_line

    try:
        folders = result_folders(results)
    except UserError:  # no result yet: the published numbers are shown all the same
        folders = []
    rows = beside_published({str(folder): Board(read_results(folder)) for folder in folders})
    if as_json:
        record = [
            score.model_dump()
            | {"ours": None if ours is None else [ours.value, ours.low, ours.high], "not_beside": reason or None}
            | {"results": folder or None}
            for score, ours, reason, folder in rows
        ]
        say_json({"scores": record, "claims": [c.model_dump() for c in numbers().claims]})
        return
    for name, source in numbers().sources.items():
        say(f"{name}: {source}")
        for score, ours, reason, folder in rows:
            if score.source == name:
                beside = f"not beside it: {reason}"
                if ours is not None:
                    beside = f"{format_interval(ours, score.unit)} ({folder})"
                say(f"  {score.what}: {format_number(score.value, score.unit)} {score.unit}; ours {one_line(beside)}")
        for claim in numbers().claims:
            if claim.source == name:
                say(f"  {claim.what}")
    say("None of these came with an error or a number of seeds.")
