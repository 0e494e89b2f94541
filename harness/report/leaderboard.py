"""``LEADERBOARD.md`` and its pictures, from the result files alone. The same files give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.report.board import Board, Column
from harness.report.costs import amount, budget_line, costs
from harness.report.imported_pairs import data_line
from harness.report.judge_citation import cited, missing
from harness.report.pictures import budget_curve, reward_kl_chart, score_table, seed_strips
from harness.report.subjects import FILE as SUBJECTS
from harness.report.subjects import subjects
from harness.report.text import grid, number, spread
from harness.score.bootstrap import Interval
from harness.score.results import RunResult, read_results
from harness.score.verdicts import verdict
from harness.store.json_files import digest, write_text

PAGE, CHART, PICTURE, SEEDS, CURVE = "LEADERBOARD.md", "reward-kl.svg", "leaderboard.svg", "seeds.svg", "curve.svg"

DIAGNOSTICS = (
    *("training_reward", "win_rate", "win_reference", "kl", "reverse_kl", "start_perplexity", "length", "truncated"),
    *("distinct_1", "distinct_2", "margin", "accuracy"),
)


def render(results: Sequence[RunResult], cards: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """File names and contents of a leaderboard. ``cards``: the sentence that links the card of each judge with one."""
    board = Board(results)
    parts = [_head(board, cards), _scores(board)]
    if board.reference in board.methods:
        parts.append(_differences(board, board.reference))
    if "start" in board.methods and board.reference != "start":
        parts.append(_differences(board, "start"))
    parts += [_distance(board), _secondary(board), costs(board), _search(board), _training(board), _methods(board)]
    parts += [_protocols(board), _failures(board)]
    files = {PAGE: "\n\n".join(p for p in parts if p) + "\n"}
    chart = reward_kl_chart(board)
    if chart:
        files[CHART] = chart
    if board.methods:
        files[PICTURE] = score_table(board)
    curve = budget_curve(board)
    if curve:
        files[CURVE] = curve
    by_seed = seed_strips(board)
    if by_seed:
        files[SEEDS] = by_seed
    by_subject = subjects(board)
    if by_subject:
        files[SUBJECTS] = by_subject
    return files


def write_leaderboard(folder: Path) -> None:
    """Write the leaderboard of ``results/<recipe>/<budget>``."""
    for name, text in render(read_results(folder), cited(folder)).items():
        write_text(folder / name, text)


def stale(folder: Path) -> list[str]:
    """Files of a leaderboard that differ from what its results give."""
    return [
        name
        for name, text in render(read_results(folder), cited(folder)).items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]


def _head(board: Board, cards: Mapping[str, str]) -> str:
    run = board.results[0]
    axis = run.budget["axis"]
    seeds = max((len(board.of(m)) for m in board.methods), default=0)
    lines = [
        f"# {run.recipe}: matched on {axis} ({amount(axis, run.budget['limit'])}, budget `{run.budget['name']}`)",
        run.description,
        budget_line(run.budget),
        f"Every method starts from the same policy (`{run.start['key']}`) and trains on the same stored token ids "
        f"(`{run.data['pairs']}`, {run.data.get('train', {}).get('pairs', '?')} pairs). Seeds: {seeds}. "
        "Square brackets: 95% intervals, bootstrap over prompts (1,000 resamples, one joint draw for all methods, fits "
        "repeated in each)"
        + (
            ", joined with the spread over training seeds (Student's t, Welch-Satterthwaite degrees of freedom)."
            if seeds > 1
            else "; one seed, so the spread over seeds is not in them."
        )
        + " *No spread*: every resample gives the same value, so there is no interval.",
    ]
    lines.append(data_line(run.data))
    if run.oracles:
        labelled = "what methods sample" if lines[-1] else "the training pairs"
        lines.append(_oracles(run.oracles["training"], run.oracles["evaluation"], labelled))
    judges = {digest(b.judge): b.judge for r in board.ok for b in r.benchmarks if b.judge}
    for key, judge in sorted(judges.items()):
        card = cards.get(key) or missing(judge, run.start["model"])
        if judge["kind"] == "endpoint":
            lines.append(
                f"**Judge** `{key}`: `{judge['model']}` behind an endpoint (`{judge['endpoint']}`), official prompts"
                f"{_snapshots(board, key)}. Scores compare with published ones only if that is the judge they name. "
                + card
            )
            continue
        lines.append(
            f"**Judge** `{key}`: {judge['kind']} by `{judge['model']}`, orders: {judge['orders']}. A weak judge, the "
            "start policy itself: its numbers are not comparable with GPT-4 judged scores, nor with any other judge's. "
            + card
        )
    if board.ok and not judges:
        lines.append("**Judge**: none; no benchmark of this page asks one.")
    if any(b.label == "mini" for r in board.ok for b in r.benchmarks):
        lines.append(
            "**mini**: a small set written for this project in the benchmark's official schema. It is not the real "
            "benchmark, and its scores are not comparable with published ones."
        )
    if subjects(board):
        lines.append(f"Scores by subject: [{SUBJECTS}]({SUBJECTS}).")
    if any("drawn" in b.label for r in board.ok for b in r.benchmarks):
        lines.append(
            "**n of N, drawn**: a subset drawn by a seed, by subject in proportion where it says so. Its score "
            "estimates the whole set's, with an interval for n items; it shares no column with a score on all N."
        )
    if reward_kl_chart(board):
        lines.append(f"![Gold reward against KL to the start policy]({CHART})")
    if budget_curve(board):
        lines.append(f"![Gold reward over the budget]({CURVE})")
    if seed_strips(board):
        lines.append(f"![Gold reward by seed]({SEEDS})")
    return "\n\n".join(line for line in lines if line)


def _snapshots(board: Board, key: str) -> str:
    """Which models the endpoint of a judge said it answered as."""
    found = {s for r in board.ok for b in r.benchmarks if b.judge and digest(b.judge) == key for s in b.snapshots}
    told = ", ".join(f"`{name}`" for name in sorted(found))
    if len(found) > 1:
        return f", answered by {told}: **the judge changed on the way, so rows may differ by judge**"
    return f", answered by {told}" if found else ""


def _oracles(training: dict[str, Any], evaluation: dict[str, Any], labelled: str) -> str:
    def told(oracle: dict[str, Any]) -> str:
        return f"`{oracle['oracle']}` (`{digest(oracle)}`)"

    if training == evaluation:
        if training["oracle"] == "none":
            return "**Oracle**: none, so nothing here is ranked by a reward."
        return (
            f"**Oracle**: {told(training)} labels {labelled} and gives the reward in evaluation: the same one, "
            "so a method that exploits its weaknesses is rewarded for it."
        )
    return f"**Oracles**: {told(training)} labels {labelled}; {told(evaluation)}, another one, evaluates."


def _heading(column: Column) -> str:
    return f"{column.title}, {column.metric.unit}"


def _scores(board: Board) -> str:
    columns = board.columns(primary=True)
    if not columns:
        return ""
    rows = []
    for method in board.methods:
        seeds = len(board.of(method))
        row = [f"`{method}`" + (f" ({seeds} seeds)" if seeds > 1 else "")]
        for column in columns:
            cell = board.cell(method, column)
            counted = f" ({cell.n_valid}/{cell.n_total})" if cell and cell.n_valid < cell.n_total else ""
            row.append(spread(cell.interval, column.metric.unit) + counted if cell else "not measured")
        rows.append(row)
    counts = ["*valid / total, each*"]
    for column in columns:
        cells = [c for m in board.methods if (c := board.cell(m, column))]
        counts.append(" ".join(sorted({f"{c.n_valid} / {c.n_total}" for c in cells})))
    rows.append(counts)
    told = [text for text in (_few_valid(board, columns), _unanswered(board)) if text]
    return "\n\n".join(["## Scores", grid(["method", *map(_heading, columns)], rows), *told])


def _few_valid(board: Board, columns: Sequence[Column]) -> str:
    """A warning where fewer than half of what was asked could be used."""
    named = [
        f"{column.title} of `{method}` ({cell.n_valid} of {cell.n_total})"
        for method in board.methods
        for column in columns
        if (cell := board.cell(method, column)) and 2 * cell.n_valid < cell.n_total
    ]
    if not named:
        return ""
    return f"**Fewer than half are valid**, so the score stands for a rest that chose itself: {'; '.join(named)}."


def _unanswered(board: Board) -> str:
    """The calls that a judge left open: they count as not valid until an answer comes."""
    named = [
        f"{b.unanswered} of `{r.method}` seed {r.seed} in {b.title}"
        for r in board.ok
        for b in r.benchmarks
        if b.unanswered
    ]
    if not named:
        return ""
    return f"**Calls without an answer of the judge**: {'; '.join(named)}. The same command asks them again."


def _differences(board: Board, other: str) -> str:
    columns = [c for c in board.columns(primary=True) if c.metric.better]
    families = [board.compared(other, column) for column in columns]
    rows = []
    for method in board.methods:
        if method == other:
            continue
        row = [f"`{method}`"]
        for column, family in zip(columns, families, strict=True):
            found = family.get(method)
            if found is None:
                row.append("not paired")
                continue
            alone = verdict(found.interval, column.metric.better) != found.words
            why = f" (p {found.p:.2f})" if alone else ""
            row.append(f"{spread(found.interval, column.metric.unit, sign=True)} **{found.words}**{why}")
        rows.append(row)
    rows.append(["*smallest difference this set can show*", *_detectable(board, columns, other)])
    note = (
        "Paired on the same prompts. An interval is about one comparison; a verdict holds for all comparisons of its "
        "column together (Holm, 5%), and p is shown where only that correction takes it back. "
        "Last row: the true difference that would be found with power 80% (median over the trained methods)."
    )
    return f"## Differences to `{other}`\n\n{grid(['method', *map(_heading, columns)], rows)}\n\n{note}"


def _detectable(board: Board, columns: Sequence[Column], other: str) -> list[str]:
    return [number(board.detectable(column, other), column.metric.unit) for column in columns]


def _rows(board: Board, columns: Sequence[Column]) -> list[list[str]]:
    rows = []
    for method in board.methods:
        cells = [board.cell(method, column) for column in columns]
        shown = [
            spread(c.interval, k.metric.unit) if c else "not measured" for c, k in zip(cells, columns, strict=True)
        ]
        rows.append([f"`{method}`", *shown])
    return rows


def _distance(board: Board) -> str:
    columns = [c for c in board.columns(benchmark="preference") if c.metric.name in DIAGNOSTICS]
    if not columns:
        return ""
    note = (
        "A reward bought by leaving the language shows here: perplexity of the answers under the start policy, KL "
        "(Monte Carlo, one sample a prompt), length and truncation. The held-out margin is never ranked, nor is the "
        "accuracy on the same pairs: self-labelled methods widen the margin by construction, so it says how far the "
        "implicit reward moved and not whether the answers became better. No trial is chosen by them either."
    )
    if any(c.metric.name == "training_reward" for c in columns):
        note += (
            " A training oracle's reward that rises while the evaluation oracle's does not is over-optimisation: the "
            "method learned the first one's weaknesses."
        )
    smallest = ["*smallest difference to `start` this set can show*", *_detectable(board, columns, "start")]
    header = ["method", *[f"{c.metric.title}, {c.metric.unit}" for c in columns]]
    lines = [header, *_rows(board, columns), smallest]
    for place, column in enumerate(columns, 1):
        if column.metric.name == "win_reference":  # the oracle compares an answer with another method's alone
            for line, method in zip(lines[1:], board.methods, strict=False):
                line[place] = _mirrored(board, columns, line[place]) if method == "start" else line[place]
                line[place] = "" if method == board.reference else line[place]
            smallest[place] = ""
    for place, told in _wins(board, columns):
        for line, cell in zip(lines, told, strict=True):
            line.insert(place, cell)
    return f"## Distance from the start policy\n\n{grid(lines[0], lines[1:])}\n\n{note}"


def _mirrored(board: Board, columns: Sequence[Column], otherwise: str) -> str:
    """Wins of ``start`` against the reference: those of the reference against ``start``, from the other side."""
    column = next((c for c in columns if c.metric.name == "win_rate"), None)
    cell = board.cell(board.reference, column) if column and board.reference in board.methods else None
    if cell is None:
        return otherwise
    found = cell.interval
    return spread(Interval(100 - found.value, 100 - found.high, 100 - found.low, found.error, found.df), "win %")


def _wins(board: Board, shown: Sequence[Column]) -> list[tuple[int, list[str]]]:
    """Columns of wins against the reference by reward, and where each goes in a table of ``shown``. None where an
    oracle compared: it was asked about the start policy's answers alone."""
    other, found = board.reference, []
    rewards = {c.protocol_hash: c for c in board.columns(benchmark="preference") if c.metric.name == "gold_reward"}
    for place, column in enumerate(shown, 2):
        reward = rewards.get(column.protocol_hash)
        if column.metric.name != "win_rate" or reward is None or reward.metric.estimator.column != "reward":
            continue
        if other == "start" or other not in board.methods:
            continue
        won = [None if m == other else board.wins(m, other, reward) for m in board.methods]
        cells = [
            spread(w, "win %") if w else "" if m == other else "not paired"
            for m, w in zip(board.methods, won, strict=True)
        ]
        found.append((place, [f"win vs `{other}`, win %", *cells, ""]))
    return found[::-1]


def _secondary(board: Board) -> str:
    columns = [c for c in board.columns(primary=False) if c.benchmark not in ("preference", "curve")]
    if not columns:
        return ""
    titles = [f"{c.benchmark}: {c.metric.title} ({c.label}), {c.metric.unit}" for c in columns]
    by_method = [row[1:] for row in _rows(board, columns)]
    sizes = _detectable(board, columns, "start")
    rows = [[title, *[row[i] for row in by_method], sizes[i]] for i, title in enumerate(titles)]
    header = ["metric", *[f"`{m}`" for m in board.methods], "smallest difference to `start`"]
    return f"## Secondary metrics and the judge's habits\n\n{grid(header, rows)}"


def _search(board: Board) -> str:
    rows = []
    for method in board.methods:
        first = next((r for r in board.of(method) if r.trials), None)
        for trial in first.trials if first else []:
            chosen = first is not None and trial.learning_rate == first.learning_rate
            kept = "kept" if first and chosen and trial.options.items() <= first.method_options.items() else ""
            options = ", ".join(f"{k} {v}" for k, v in trial.options.items())
            row = [f"`{method}`", f"{trial.learning_rate:g}", options]
            if trial.perplexity_ratio is None:
                rows.append([*row, "n/a", f"diverged: {trial.error}", ""])
                continue
            reward = "not asked" if trial.gold_reward is None else f"{trial.gold_reward:.3f}"
            ratio = f"{trial.perplexity_ratio:.2f}" + ("" if trial.eligible else " (too high: not eligible)")
            rows.append([*row, reward, ratio, kept])
    if not rows:
        return ""
    note = (
        "The same number of trials for each method, scored on tuning prompts that are neither trained nor evaluated "
        "on; the highest gold reward among eligible trials is kept."
    )
    header = ["method", "learning rate", "options", "gold reward (tuning)", "perplexity ratio to start", ""]
    if not any(row[2] for row in rows):
        header, rows = header[:2] + header[3:], [row[:2] + row[3:] for row in rows]
    return f"## Search\n\n{grid(header, rows)}\n\n{note}"


DIAGNOSED = {
    "rewards/accuracies": "accuracy on trained pairs",
    "abs_u": "mean abs(u)",
    "self_label_entropy": "self-label entropy, nats",
    "kl": "KL of samples, nats/response",
    "score/std": "score term, std",
    "score/std_no_baseline": "the same without baseline",
    "generated/length": "sampled length, tokens",
    "generated/truncated": "sampled, truncated",
}


def _training(board: Board) -> str:
    """What the training logs say of the second half of the steps."""
    shown = {
        name: title for name, title in DIAGNOSED.items() if any(name in row for r in board.ok for row in r.train_log)
    }
    rows = []
    for method in board.methods:
        logs = [row for r in board.of(method) for row in r.train_log[len(r.train_log) // 2 :]]
        values = [[row[name] for row in logs if name in row] for name in shown]
        if logs:
            rows.append([f"`{method}`", *[f"{sum(v) / len(v):.3g}" if v else "" for v in values]])
    if not rows or not shown:
        return ""
    note = "Means over the second half of the training steps and over seeds. Empty: the method does not log it."
    return f"## In training\n\n{grid(['method', *shown.values()], rows)}\n\n{note}"


def _methods(board: Board) -> str:
    rows = []
    for method in board.methods:
        run = board.of(method)[0]
        options = ", ".join(f"{k} {v}" for k, v in run.method_options.items())
        what = f"`{run.variant_of}`: {run.method_summary}" if run.variant_of else run.method_summary
        rows.append([f"`{method}`", what, options, run.method_origin])
    return "## Methods\n\n" + grid(["method", "what it is", "options", "origin"], rows) if rows else ""


def _protocols(board: Board) -> str:
    found = {}
    for run in board.ok:
        for b in run.benchmarks:
            judge = f"`{digest(b.judge)}`" if b.judge else "none"
            found[b.benchmark, b.protocol_hash] = [b.benchmark, b.label, f"`{b.protocol_hash}`", judge]
    environments = {digest(r.environment): r.environment for r in board.ok}
    lines = []
    for env in environments.values():
        libraries = ", ".join(f"{k} {v}" for k, v in sorted(env["libraries"].items()))
        lines.append(f"- sail-bench {env['sail_bench']}, Python {env['python']}, {env['cores']} cores; {libraries}")
    run = board.results[0]
    command = f"`sail-bench compare {run.recipe} --budget {run.budget['name']}`"
    page = f"`sail-bench leaderboard {run.recipe}`"
    again = f"Made by {command} (a recipe that is not built in: its file); this page: {page}."
    body = grid(["benchmark", "label", "protocol", "judge"], list(found.values()))
    return f"## Protocols and environment\n\n{body}\n\n" + "\n".join(lines) + f"\n\n{again}"


def _failures(board: Board) -> str:
    bad = [r for r in board.results if r.status != "ok"]
    if not bad:
        return ""
    rows = [[f"`{r.method}`", str(r.seed), r.error.replace("|", "\\|")] for r in bad]
    return "## Failed runs\n\n" + grid(["method", "seed", "why"], rows)
