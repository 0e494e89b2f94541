"""Sections of a leaderboard page on the methods: their search, training, options, protocols and failed runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.board import Board
from harness.report.markdown import code, markdown_table, plain
from harness.report.trust import certificates_of
from harness.store.json_files import digest

LOGGED = {
    "rewards/accuracies": "accuracy on trained pairs",
    "abs_u": "mean abs(u)",
    "self_label_entropy": "self-label entropy, nats",
    "kl": "KL of samples, nats/response",
    "score/std": "score term, std",
    "score/std_no_baseline": "the same without baseline",
    "generated/length": "sampled length, tokens",
    "generated/truncated": "sampled, truncated",
}


def search_section(board: Board) -> str:
    """The trials of each method's search, and which one was kept."""
    rows = []
    for method in board.methods:
        searched = next((r for r in board.runs_of(method) if r.trials), None)
        if searched is None:
            continue
        for trial in searched.trials:
            kept = (
                trial.learning_rate == searched.learning_rate
                and trial.options.items() <= searched.method_options.items()
            )
            options = ", ".join(f"{k} {v}" for k, v in trial.options.items())
            row = [code(method), f"{trial.learning_rate:g}", plain(options)]
            if trial.perplexity_ratio is None:
                rows.append([*row, "n/a", f"diverged: {plain(trial.error)}", ""])
                continue
            reward = "not asked" if trial.gold_reward is None else f"{trial.gold_reward:.3f}"
            ratio = f"{trial.perplexity_ratio:.2f}" + ("" if trial.eligible else " (too high: not eligible)")
            rows.append([*row, reward, ratio, "kept" if kept else ""])
    if not rows:
        return ""
    note = (
        "The same number of trials for each method, scored on tuning prompts that are neither trained nor evaluated "
        "on; the highest gold reward among eligible trials is kept."
    )
    header = ["method", "learning rate", "options", "gold reward (tuning)", "perplexity ratio to start", ""]
    if not any(row[2] for row in rows):
        header, rows = header[:2] + header[3:], [row[:2] + row[3:] for row in rows]
    certificates = [f"* {code(m)}: {plain(c.text)}" for m, c in certificates_of(board).items()]
    return "\n\n".join([markdown_table(header, rows), note, "\n".join(certificates)])


def training_section(board: Board) -> str:
    """Means of the training logs over the second half of the steps."""
    titles = {
        name: title for name, title in LOGGED.items() if any(name in row for r in board.finished for row in r.train_log)
    }
    rows = []
    for method in board.methods:
        logs = [row for r in board.runs_of(method) for row in r.train_log[len(r.train_log) // 2 :]]
        values = [[row[name] for row in logs if name in row] for name in titles]
        if logs:
            rows.append([code(method), *[f"{sum(v) / len(v):.3g}" if v else "" for v in values]])
    if not rows or not titles:
        return ""
    note = "Means over the second half of the training steps and over seeds. Empty: the method does not log it."
    return f"{markdown_table(['method', *titles.values()], rows)}\n\n{note}"


def methods_section(board: Board) -> str:
    """What each row of the tables is, with its options."""
    rows = []
    for method in board.methods:
        run = board.runs_of(method)[0]
        options = ", ".join(f"{k} {v}" for k, v in run.method_options.items())
        summary = f"{code(run.variant_of)}: " * bool(run.variant_of) + plain(run.method_summary)
        rows.append([code(method), summary, plain(options), plain(run.method_origin)])
    return markdown_table(["method", "what it is", "options", "origin"], rows) if rows else ""


def protocols_section(board: Board, made_by: str) -> str:
    """Protocol and judge of each benchmark, the machines and libraries, and the commands that made the page.

    Args:
        board: all results of the page.
        made_by: the command that made the results (:mod:`.recipe_file`).
    """
    protocols = {}
    for run in board.finished:
        for b in run.benchmarks:
            judge = f"`{digest(b.judge)}`" if b.judge else "none"
            protocols[b.benchmark, b.protocol_hash] = [
                b.benchmark,
                b.label,
                f"`{b.protocol_hash}`",
                judge,
            ]
    lines = list(dict.fromkeys(_machine_line(run.environment) for run in board.finished))
    run = board.results[0]
    page = f"`sail-bench leaderboard {run.recipe}`"
    origin = f"Made by {made_by}; this page: {page}."
    table = markdown_table(["benchmark", "label", "protocol", "judge"], list(protocols.values()))
    return f"{table}\n\n" + "\n".join(lines) + f"\n\n{origin}"


def _machine_line(environment: Mapping[str, Any]) -> str:
    """Machine and libraries of a run, and how many shared the machine with how many threads each."""
    libraries = ", ".join(f"{k} {v}" for k, v in sorted(environment["libraries"].items()))
    machine = [f"{environment['cores']} cores"]
    if gpu := environment.get("gpu"):
        cuda = f", CUDA {gpu['cuda']}" if gpu.get("cuda") else ""
        machine.append(f"{gpu['count']} x {gpu['name']} ({gpu['memory.total']}, driver {gpu['driver_version']}{cuda})")
    if "workers" in environment:
        many = "s" if environment["workers"] > 1 else ""
        machine.append(f"{environment['workers']} run{many} side by side, {environment['threads']} threads each")
    if packed := environment.get("packed_weights"):
        by = " by oneDNN" if packed == "onednn" else ""
        machine.append(f"weights packed for float32 products{by}")
    first = f"- sail-bench {environment['sail_bench']}, Python {environment['python']}"
    return f"{first}, {', '.join(machine)}; {libraries}"


def failures_section(board: Board) -> str:
    """Runs that failed, and why."""
    rows = [[code(r.method), str(r.seed), plain(r.error)] for r in board.results if r.error]
    return markdown_table(["method", "seed", "why"], rows) if rows else ""
