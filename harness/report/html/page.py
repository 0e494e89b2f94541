"""The page: its data, its libraries and its script in one file that asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.report.board import Board
from harness.report.html.assets import Assets, read_assets
from harness.report.html.budget_ranks import budget_json
from harness.report.html.faults import faults_json
from harness.report.html.judges import judges_json
from harness.report.html.payload import compressed_json, plain, script_json, visible
from harness.report.html.samples import runs_json, sample_sets, set_json, why_none
from harness.report.html.scores import (
    categories_json,
    columns_json,
    costs_json,
    distance_json,
    failures_json,
    methods_json,
    pareto_json,
    wins_json,
)
from harness.report.html.spending import phases_json, predictions_json
from harness.report.html.stored import Stored
from harness.report.html.training import training_json
from harness.report.legend_words import uneven_marks, words_of
from harness.report.ranking import ranking_of
from harness.report.summary import summary_of
from harness.score.fits import KeptFits
from harness.score.results import read_results
from harness.store.json_files import write_text
from harness.store.storage import unwritable

FILE = "report.html"


def write_report(folder: Path, store: Path, out: Path | None = None) -> Path:
    """Write the report of ``results/<recipe>/<budget>``.

    Args:
        folder: with the result files of a comparison.
        store: of the stages that the results were made from; it may be absent.
        out: the file; ``report.html`` in ``folder`` if None.

    Returns:
        the file.

    Raises:
        UserError: no finished run, a broken result file, a package that is missing, or a file that cannot be written.
    """
    assets = read_assets()
    results = read_results(folder)
    board = Board(results, KeptFits(folder))
    if not board.finished:
        raise UserError(f"No run in {folder} has finished: run sail-bench compare again, then make the report")
    path = out or folder / FILE
    text = render(board, Stored(store), folder, assets)
    try:
        write_text(path, text)
    except OSError as error:
        raise unwritable(path, error, "name another file with --out", "The report ") from None
    return path


def render(board: Board, stored: Stored, folder: Path, assets: Assets) -> str:
    """The text of the page.

    Args:
        board: all results of one recipe under one budget.
        stored: stages that the results were made from.
        folder: of the results, beside which judge cards are.
        assets: libraries and the page's own parts.
    """
    sets = sample_sets(board, stored)
    data = report_json(board, stored, folder) | {
        "faults": faults_json(board, sets),
        "samples": {"sets": runs_json(sets), "why_none": why_none(board, sets)},
        "libraries": [
            {"title": x.title, "package": x.package, "version": x.version} for x in (assets.tables, assets.charts)
        ],
    }
    scripts = [assets.tables.script, assets.script, assets.charts.script]  # the first screen needs no chart
    embedded = [_data_element("report", "application/json", script_json(data))]
    embedded += [_data_element(f"samples-{i}", "text/plain", compressed_json(set_json(s))) for i, s in enumerate(sets)]
    parts = {
        "policy": _policy(scripts),
        "title": html.escape(visible(f"{board.results[0].recipe}: SAIL-bench")),
        "style": assets.style.replace("</", "<\\/"),
        "data": "\n".join(embedded),
        "scripts": "\n".join(f'<script type="module">{_inline(script)}</script>' for script in scripts),
    }
    page = assets.frame
    for name, text in parts.items():
        before, _, after = page.partition("{{" + name + "}}")
        page = before + text + after
    return page


def report_json(board: Board, stored: Stored, folder: Path) -> dict[str, Any]:
    """The data of the page that follow from the result files and the store's manifests."""
    run = board.results[0]
    columns, costs, ranking = columns_json(board), costs_json(board), ranking_of(board)
    value: dict[str, Any] = plain(
        {
            "recipe": run.recipe,
            "description": run.description,
            "budget": {k: run.budget[k] for k in ("name", "axis", "limit")},
            "reference": board.reference,
            "sentences": [sentence.text for sentence in summary_of(board, ranking).sentences],
            "notes": [n for n in (uneven_marks(board, ranking), words_of(board.columns(primary=True))) if n],
            "methods": methods_json(board),
            "failures": failures_json(board),
            "columns": columns,
            "costs": costs,
            "pareto": pareto_json(columns, costs),
            "ranks": budget_json(board),
            "distance": distance_json(board),
            "wins": wins_json(board),
            "categories": categories_json(board),
            "phases": phases_json(board),
            "predictions": predictions_json(board, stored),
            "judges": judges_json(board, folder),
            "training": training_json(board),
            "environment": _environments(board),
        }
    )
    return value


def _environments(board: Board) -> list[str]:
    lines = []
    for run in board.finished:
        machine = run.environment
        gpu = machine.get("gpu", {})
        device = f"{gpu['count']} x {gpu['name']}" if gpu else f"{machine.get('cores', '?')} CPU cores"
        libraries = ", ".join(f"{k} {v}" for k, v in sorted(machine.get("libraries", {}).items()))
        lines.append(f"sail-bench {machine.get('sail_bench', '?')} on {device}; {libraries}")
    return list(dict.fromkeys(lines))


def _data_element(name: str, kind: str, text: str) -> str:
    return f'<script type="{kind}" id="{name}">{text}</script>'


def _inline(script: str) -> str:
    """A script that cannot end its element early."""
    return "\n" + script.replace("</script", "<\\/script").replace("<!--", "<\\!--") + "\n"


def _policy(scripts: Sequence[str]) -> str:
    """The content security policy: these scripts alone, and no request at all. Vega compiles its expressions."""
    hashes = (base64.b64encode(hashlib.sha256(_inline(s).encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed} 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
    )
