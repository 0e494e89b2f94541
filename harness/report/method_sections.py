"""Sections of a leaderboard page on the methods: their search, training, options, protocols and failed runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.board import Board
from harness.report.text import markdown_table
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
            row = [f"`{method}`", f"{trial.learning_rate:g}", options]
            if trial.perplexity_ratio is None:
                rows.append([*row, "n/a", f"diverged: {trial.error}", ""])
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
    return f"## Search\n\n{markdown_table(header, rows)}\n\n{note}"


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
            rows.append([f"`{method}`", *[f"{sum(v) / len(v):.3g}" if v else "" for v in values]])
    if not rows or not titles:
        return ""
    note = "Means over the second half of the training steps and over seeds. Empty: the method does not log it."
    return f"## In training\n\n{markdown_table(['method', *titles.values()], rows)}\n\n{note}"


def methods_section(board: Board) -> str:
    """What each row of the tables is, with its options."""
    rows = []
    for method in board.methods:
        run = board.runs_of(method)[0]
        options = ", ".join(f"{k} {v}" for k, v in run.method_options.items())
        summary = f"`{run.variant_of}`: {run.method_summary}" if run.variant_of else run.method_summary
        rows.append([f"`{method}`", summary, options, run.method_origin])
    return "## Methods\n\n" + markdown_table(["method", "what it is", "options", "origin"], rows) if rows else ""


def protocols_section(board: Board) -> str:
    """Protocol and judge of each benchmark, the machines and libraries, and the commands that made the page."""
    protocols = {}
    for run in board.finished:
        for b in run.benchmarks:
            judge = f"`{digest(b.judge)}`" if b.judge else "none"
            protocols[b.benchmark, b.protocol_hash] = [b.benchmark, b.label, f"`{b.protocol_hash}`", judge]
    lines = list(dict.fromkeys(_machine_line(run.environment) for run in board.finished))
    run = board.results[0]
    command = f"`sail-bench compare {run.recipe} --budget {run.budget['name']}`"
    page = f"`sail-bench leaderboard {run.recipe}`"
    origin = f"Made by {command} (a recipe that is not built in: its file); this page: {page}."
    table = markdown_table(["benchmark", "label", "protocol", "judge"], list(protocols.values()))
    return f"## Protocols and environment\n\n{table}\n\n" + "\n".join(lines) + f"\n\n{origin}"


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
    if environment.get("packed_weights"):
        machine.append("weights packed for float32 products")
    first = f"- sail-bench {environment['sail_bench']}, Python {environment['python']}"
    return f"{first}, {', '.join(machine)}; {libraries}"


def failures_section(board: Board) -> str:
    """Runs that failed, and why."""
    rows = [[f"`{r.method}`", str(r.seed), r.error.replace("|", "\\|")] for r in board.results if r.error]
    return "## Failed runs\n\n" + markdown_table(["method", "seed", "why"], rows) if rows else ""
