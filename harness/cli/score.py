"""``sail-bench score``: scores of judgments that somebody else made, and of reward models on labelled pairs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.terminal import say, say_json
from harness.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from benchmarks.shared.score_report import ScoreReport


FILE = click.Path(path_type=Path)


@click.group()
def score() -> None:
    """Score the official tools' own judgment files, or reward models. JSON to the standard output, a table to the
    terminal."""


def _print(
    scores: ScoreReport,
    reference: str | None,
    extra: dict[str, Any] | None = None,
    more_tables: Callable[[dict[str, Any]], list[Table]] = lambda report: [],
) -> None:
    """Print the report: tables and warnings to the terminal, JSON to the standard output.

    Args:
        scores: of all models.
        reference: the model that the others are compared with, if any.
        extra: further keys of the JSON.
        more_tables: further tables, from the JSON.
    """
    from rich.console import Console

    from benchmarks.shared.score_report import score_tables
    from harness.store.foreign_text import one_line

    report = scores.as_json(reference) | (extra or {})
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 140)
    for table in [*score_tables(report), *more_tables(report)]:
        console.print(table)
    for warning in report["warnings"]:
        say(f"note: {one_line(warning)}", err=True)
    say_json(report)


REFERENCE = click.option("--reference", metavar="MODEL", help="Print differences of all models from this one.")


@score.command("alpaca_eval")
@click.argument("more_annotations", nargs=-1, type=FILE, metavar="[ANNOTATIONS]...")
@click.option(
    "--annotations",
    type=FILE,
    multiple=True,
    help="annotations.json, or a folder of them; further ones may follow it, or it may be repeated.",
)
@click.option("--model-outputs", type=FILE, help="The model's outputs, if the annotations hold no texts.")
@click.option("--eval-set", type=FILE, help="The evaluation set, in order; difficulty and anchors may lie beside it.")
@click.option("--data-dir", type=FILE, help="Folder with alpaca_eval/: evaluation set, difficulty, anchors.")
@click.option(
    "--fit",
    type=click.Choice(["exact", "official"]),
    default="exact",
    show_default=True,
    help="How length control is fitted: to its optimum, or as alpaca_eval does it.",
)
@click.option("--c", type=float, help="C of --fit official (inverse penalty); by default cross-validation chooses it.")
@click.option("--row-numbers", is_flag=True, help="Reproduce the published misalignment after a missing row.")
@REFERENCE
def alpaca_eval(
    more_annotations: tuple[Path, ...],
    annotations: tuple[Path, ...],
    model_outputs: Path | None,
    eval_set: Path | None,
    data_dir: Path | None,
    fit: Any,
    c: float | None,
    row_numbers: bool,
    reference: str | None,
) -> None:
    """AlpacaEval 2: length-controlled and raw win rate. ANNOTATIONS are further files of --annotations."""
    from benchmarks.alpaca_eval.score_files import score_annotation_files

    paths = [*annotations, *more_annotations]
    if not paths:
        raise UserError("score alpaca_eval reads annotations: give --annotations FILE")
    scores = score_annotation_files(paths, eval_set, data_dir, model_outputs, fit, row_numbers, c)
    _print(scores, reference)


@score.command("arena_hard")
@click.option(
    "--judgments", type=FILE, required=True, help="A .jsonl file, or a folder of them; or arena_hard_battles.jsonl."
)
@click.option("--baseline", metavar="MODEL", help="Of rows that name none; by default the official one is assumed.")
@click.option("--answers", type=FILE, help="Answers of all models and of the baseline, for style control.")
@click.option(
    "--protocol",
    type=click.Choice(["v0.1", "v2.0"]),
    default="v0.1",
    show_default=True,
    help="The version of Arena-Hard.",
)
@click.option(
    "--category",
    type=click.Choice(["hard_prompt", "creative_writing"]),
    help="Of v2.0, where each has a baseline of its own; by default the one in the file, of both hard_prompt.",
)
@click.option("--pool", type=FILE, help="A frozen style (written by --save-pool) to control with.")
@click.option("--save-pool", type=FILE, help="Write this pool's style, to freeze it.")
@REFERENCE
def arena_hard(
    judgments: Path,
    baseline: str | None,
    answers: Path | None,
    protocol: Any,
    category: str | None,
    pool: Path | None,
    save_pool: Path | None,
    reference: str | None,
) -> None:
    """Arena-Hard: style-controlled and raw score against the baseline."""
    from benchmarks.arena_hard.frozen_style import read_style_record
    from benchmarks.arena_hard.score_files import score_judgment_files
    from harness.errors import UserError
    from harness.store.json_files import write_json

    frozen = read_style_record(pool) if pool else None
    scores, style = score_judgment_files(judgments, answers, protocol, frozen, category, baseline)
    if save_pool is not None:
        if style is None:
            raise UserError("--save-pool needs --answers with every answer: there is no style to save")
        write_json(save_pool, style)
    _print(scores, reference, {"style": style})


@score.command("mt_bench")
@click.option("--judgments", type=FILE, required=True, help="FastChat's gpt-4_single.jsonl or gpt-4_pair.jsonl.")
@click.option("--questions", type=FILE, help="question.jsonl, for scores by category.")
@click.option("--baseline", metavar="MODEL", help="Of a pairwise file: count games against this model only.")
@REFERENCE
def mt_bench(judgments: Path, questions: Path | None, baseline: str | None, reference: str | None) -> None:
    """MT-Bench: single-answer ratings or pairwise win rates (the rows say which), by turn and category."""
    from benchmarks.mt_bench.score_pairwise import holds_pairwise_rows, score_pairwise_games
    from benchmarks.mt_bench.score_single import score_single_ratings
    from harness.errors import UserError

    if holds_pairwise_rows(judgments):
        _print(score_pairwise_games(judgments, questions, baseline), reference)
    elif baseline is not None:
        raise UserError(f"{judgments} holds single-answer ratings, which have no --baseline: leave it out")
    else:
        _print(score_single_ratings(judgments, questions), reference)


@score.command("rewardbench")
@click.option(
    "--model", "models", multiple=True, required=True, help="A reward model: directory or Hub id; repeatable."
)
@click.option("--data-dir", type=FILE, help="Folder with rewardbench/filtered.jsonl or .parquet; else the Hub.")
@click.option("--limit", type=click.IntRange(min=0), default=0, help="So many pairs, drawn by subset (0: all).")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the pairs of --limit.")
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Answers scored at once.")
@click.option("--max-length", type=click.IntRange(min=1), default=2048, show_default=True, help="Tokens seen.")
@click.option("--store", type=FILE, default=Path(".sail-bench"), show_default=True, help="Keeps rewards over a kill.")
@REFERENCE
def rewardbench(
    models: tuple[str, ...],
    data_dir: Path | None,
    limit: int,
    seed: int,
    batch_size: int,
    max_length: int,
    store: Path,
    reference: str | None,
) -> None:
    """RewardBench, or pairs in its format: accuracy of reward models by subset."""
    from benchmarks.rewardbench.score_models import score_reward_models, subset_table
    from harness.store.row_cache import RowCache
    from harness.store.storage import check_writable

    check_writable(store, "--store")
    scores = score_reward_models(
        list(dict.fromkeys(models)),
        data_dir,
        cache=RowCache(store / "rows.sqlite"),
        limit=limit,
        seed=seed,
        batch_size=batch_size,
        max_length=max_length,
        progress=lambda name, done: say(f"{name}: {done:,} answers", err=True),
    )
    _print(scores, reference, more_tables=lambda report: [subset_table(report)])
