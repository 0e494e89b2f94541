"""``sail-bench diff``: what differs between two sets of results."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.terminal import say, say_json

if TYPE_CHECKING:
    from harness.score.bootstrap import Interval
    from harness.score.result_diff import Flips, MetricDiff, ResultDiff, Setting

SHOWN_IDS = 20


@click.command()
@click.argument("first", type=click.Path(path_type=Path, exists=True))
@click.argument("second", type=click.Path(path_type=Path, exists=True))
@click.option("--all", "every", is_flag=True, help="All metrics, not the primary ones alone.")
@click.option("--flips", is_flag=True, help="Name the items whose verdict changed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(first: Path, second: Path, every: bool, flips: bool, as_json: bool) -> None:
    """What differs between two results: values, items whose verdict flipped, settings, versions.

    FIRST and SECOND are folders results/RECIPE/BUDGET, folders of one row in them, or result files. Rows go together by
    name (two rows' folders with each other), runs by seed, items where protocol and judge are the same. Differences are
    second minus first, corrected for their number (Holm).

    Exit code: 0 if no difference is shown, 1 if one is, 2 if the command cannot run, 3 if no items could be paired.
    """
    from harness.score.result_diff import compare_results, read_rows_at

    if first.resolve() == second.resolve():
        say(f"{first} and {second} are the same results: every difference is 0", err=True)
    compared = compare_results(read_rows_at(first), read_rows_at(second), primary=None if every else True)
    if as_json:
        say_json(_record(compared))
    else:
        _show(compared, flips)
    sys.exit(1 if compared.shown else 0 if compared.paired else 3)


def _show(compared: ResultDiff, flips: bool) -> None:
    from harness.store.foreign_text import one_line

    for row in compared.rows:
        say(one_line(row.first if row.first == row.second else f"{row.first} -> {row.second}"))
        for metric in row.metrics:
            say(f"  {one_line(metric.title)}, {one_line(metric.unit)}: {_values(metric)}")
            say(f"    {_change(metric)}")
            if metric.flips is not None:
                say(f"    {_counts(metric.flips)}")
                for word, ids in (("gained", metric.flips.gained), ("lost", metric.flips.lost)):
                    if flips and ids:
                        say(f"      {word}: {_ids(ids)}")
    for names, where in ((compared.only_first, "first"), (compared.only_second, "second")):
        if names:
            say(f"only in the {where}: {one_line(', '.join(names))}")
    for title, settings in (("Settings that differ", compared.settings), ("Versions that differ", compared.versions)):
        say(f"{title}: none" if not settings else f"{title}:")
        for setting in settings:
            say(f"  {one_line(setting.key)}: {_text(setting.first)} -> {_text(setting.second)}")
    if not compared.paired:
        say("No items could be paired, so that no difference is tested.")


def _values(metric: MetricDiff) -> str:
    from harness.report.text import format_interval

    texts = [format_interval(i, metric.unit) if i is not None else "n/a" for i in (metric.first, metric.second)]
    return " -> ".join(texts)


def _change(metric: MetricDiff) -> str:
    from harness.report.text import format_interval

    if metric.difference is None:
        return f"not paired: {metric.reason}"
    p = f" (p {metric.p:.2g} after correction)" if isfinite(metric.p) else ""
    seeds = f", {len(metric.seeds)} seeds" if len(metric.seeds) > 1 else ""
    return f"{format_interval(metric.difference, metric.unit, sign=True)} {metric.verdict}{p}{seeds}"


def _counts(flips: Flips) -> str:
    return f"items: {len(flips.gained)} gained, {len(flips.lost)} lost, {flips.same} the same (McNemar p {flips.p:.2g})"


def _ids(ids: Sequence[object]) -> str:
    from harness.store.foreign_text import one_line

    more = f" and {len(ids) - SHOWN_IDS} more (--json has all)" if len(ids) > SHOWN_IDS else ""
    return ", ".join(one_line(i) for i in ids[:SHOWN_IDS]) + more


def _text(value: Any) -> str:
    from harness.store.foreign_text import one_line

    return "absent" if value is None else one_line(value)


def _record(compared: ResultDiff) -> dict[str, Any]:
    """The JSON form."""
    return {
        "rows": [
            {"first": row.first, "second": row.second, "metrics": [_metric_record(m) for m in row.metrics]}
            for row in compared.rows
        ],
        "only_first": compared.only_first,
        "only_second": compared.only_second,
        "settings": [_setting_record(s) for s in compared.settings],
        "versions": [_setting_record(s) for s in compared.versions],
        "shown": compared.shown,
        "paired": compared.paired,
    }


def _metric_record(metric: MetricDiff) -> dict[str, Any]:
    flips = metric.flips
    return {
        "benchmark": metric.benchmark,
        "title": metric.title,
        "unit": metric.unit,
        "better": metric.better,
        "first": _interval_record(metric.first),
        "second": _interval_record(metric.second),
        "difference": _interval_record(metric.difference),
        "not_paired": metric.reason or None,
        "p_holm": metric.p if isfinite(metric.p) else None,
        "verdict": str(metric.verdict) if metric.difference is not None else None,
        "seeds": list(metric.seeds),
        "flips": None
        if flips is None
        else {"gained": list(flips.gained), "lost": list(flips.lost), "same": flips.same, "p": flips.p},
    }


def _interval_record(interval: Interval | None) -> dict[str, float | None] | None:
    if interval is None:
        return None
    values = {"value": interval.value, "low": interval.low, "high": interval.high}
    return {name: value if isfinite(value) else None for name, value in values.items()}


def _setting_record(setting: Setting) -> dict[str, Any]:
    return {"key": setting.key, "first": setting.first, "second": setting.second}
