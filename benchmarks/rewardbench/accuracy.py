"""Accuracy on labelled pairs: columns and metrics, with RewardBench's sections where the official score applies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from benchmarks.rewardbench.sections import SECTION_OF, SECTIONS, WEIGHTS, is_official
from benchmarks.shared.numbers import SHARE
from harness.benchmark import Row, Scored
from harness.score.metrics import metric
from harness.score.results import Columns
from harness.score.validity import Invalid, Range


def score_pairs(
    pairs: Sequence[Row], verdicts: Mapping[str, list[float | Invalid]], titles: Mapping[str, str], title: str
) -> Scored:
    """Columns and metrics of verdicts on pairs; the first kind of verdict is primary, and has sections.

    Args:
        pairs: rows with ``id``, ``subset``, ``weight`` and ``of``.
        verdicts: by name of the metric, for each pair: 1 if the chosen answer is ranked higher, 0 if the rejected one
            is, one half for a tie, a reason for a pair that is not valid.
        titles: of the metrics, by name; the primary one has ``title``.
        title: of the benchmark.
    """
    columns: Columns = {"id": [p["id"] for p in pairs], "subject": [p["subset"] for p in pairs], **verdicts}
    drawn = any(p["weight"] != 1 for p in pairs)
    if drawn:
        columns["weight"] = [p["weight"] for p in pairs]
    groups, (main, *others) = {"items": columns}, verdicts
    official = is_official(Counter(columns["subject"]))
    kind = "sections" if official else "weighted_percent" if drawn else "percent"
    main_title = title if official else f"{title}-format pairs, mean"
    metrics = [metric(main, main_title, "acc %", 1, kind, main, primary=True)]
    if official:
        columns["section"] = [SECTION_OF[subset] for subset in columns["subject"]]
        columns["section_weight"] = [round(WEIGHTS[p["subset"]] / p["of"] * p["weight"], 6) for p in pairs]
        for section in SECTIONS:
            inside = [i for i, name in enumerate(columns["section"]) if name == section]
            names = ("id", main, "section", "section_weight")
            groups[section] = {name: [columns[name][i] for i in inside] for name in names}
            metrics.append(metric(section, section, "acc %", 1, kind, main, group=section))
    metrics += [metric(name, titles[name], "acc %", 1, kind, name) for name in others]
    ranges: dict[str, Range] = dict.fromkeys(verdicts, SHARE)
    return Scored(groups, metrics, ranges)
