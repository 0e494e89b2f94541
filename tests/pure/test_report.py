"""The leaderboard reads result files alone, is byte-stable, and never mixes protocols."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kit.results import PEOPLE, details, preference_result, run_result

from harness.answer.verdict import NO_LABEL, NO_LOGPROBS
from harness.errors import UserError
from harness.report.board import Board
from harness.report.leaderboard import render_pages, stale_files, write_leaderboard
from harness.report.text import format_number, power_text, time_text
from harness.score.metrics import evaluate, metric
from harness.score.results import RunResult, Trial, read_result, read_results, result_path, write_result
from harness.store.json_files import digest
from harness.store.versions import VERSIONS, raised_since


def three(seed: int = 0) -> list[RunResult]:
    rng = np.random.default_rng(seed)
    base = rng.binomial(2, 0.3, PEOPLE) / 2
    better = np.clip(base + rng.binomial(1, 0.6, PEOPLE) / 2, 0, 1)
    noise = np.clip(better + rng.choice([-0.5, 0, 0.5], PEOPLE, p=[0.1, 0.8, 0.1]), 0, 1)
    kl = rng.uniform(1, 3, PEOPLE)
    return [
        run_result("start", [preference_result(base, 0 * kl)]),
        run_result("dpo", [preference_result(better, kl)]),
        run_result("sail-pr", [preference_result(noise, kl + 1)]),
    ]


def test_verdicts_follow_the_paired_data() -> None:
    page = render_pages(three())["LEADERBOARD.md"]
    against_dpo = details(page, "Differences, with intervals").split("### To `dpo`")[1].split("###")[0]
    assert "**▼ worse**" in next(line for line in against_dpo.split("\n") if line.startswith("| `start`"))
    assert next(line for line in against_dpo.split("\n") if "`sail-pr`" in line).endswith("] · |")
    first = page.split("<details>")[0]
    assert "] **▼** |" in next(line for line in first.split("\n") if line.startswith("| `start`"))
    assert "] · |" in next(line for line in first.split("\n") if line.startswith("| `sail-pr`"))
    assert page.startswith("# demo: matched on pairs (96 pairs, budget `pairs-96`)")
    assert "60 / 60" in page


def test_values_that_are_not_valid_are_counted_by_reason() -> None:
    results = three()
    invalid = {"invalid": {"gold_reward": {NO_LOGPROBS: 3, NO_LABEL: 1}}}
    results[1] = results[1].model_copy(update={"benchmarks": [results[1].benchmarks[0].model_copy(update=invalid)]})
    page = render_pages(results)["LEADERBOARD.md"]
    assert f"gold reward of `dpo`: 1 {NO_LABEL}, 3 {NO_LOGPROBS}." in page
    assert "**Not valid**" not in render_pages(three())["LEADERBOARD.md"]


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    for result in three():
        write_result(result_path(tmp_path, "demo", "pairs-96", result.method, result.seed), result)
    folder = tmp_path / "demo" / "pairs-96"
    write_leaderboard(folder)
    assert stale_files(folder) == []
    assert render_pages(read_results(folder)) == render_pages(read_results(folder))
    page = folder / "LEADERBOARD.md"
    page.write_text(page.read_text().replace("worse", "better", 1))
    assert stale_files(folder) == ["LEADERBOARD.md"]


def test_protocols_never_share_a_column() -> None:
    results = three()
    changed = results[2].benchmarks[0].model_copy(update={"protocol_hash": "b" * 16})
    results[2] = results[2].model_copy(update={"benchmarks": [changed]})
    board = Board(results)
    assert len(board.columns(primary=True)) == 2
    first, second = board.columns(primary=True)
    assert board.cell("sail-pr", first) is None
    assert board.cell("dpo", second) is None
    assert board.difference("sail-pr", "dpo", first) is None
    assert "not measured" in render_pages(results)["LEADERBOARD.md"]


def test_difference_equals_the_difference_of_means() -> None:
    results = three()
    board = Board(results)
    column = board.columns(primary=True)[0]
    difference = board.difference("sail-pr", "start", column)
    rewards = [np.array(r.benchmarks[0].items["items"]["reward"]) for r in results]
    assert difference is not None
    assert difference.value == pytest.approx(rewards[2].mean() - rewards[0].mean())
    assert difference.error == pytest.approx((rewards[2] - rewards[0]).std(ddof=1) / PEOPLE**0.5, rel=0.12)


def test_wins_count_prompts_and_pair_the_seeds() -> None:
    """Against a loop over prompts; over seeds, the mean of the seeds that both have."""
    one, two = three(), three(1)
    results = [one[0]]
    for seed, wins in enumerate((one, two)):
        results += [r.model_copy(update={"seed": seed, "learning_rate": 1e-3}) for r in wins[1:]]
    board = Board(results)
    column = board.columns(primary=True)[0]

    def share(a: RunResult, b: RunResult) -> float:
        x, y = (r.benchmarks[0].items["items"]["reward"] for r in (a, b))
        return 100 * sum(1 if p > q else 0.5 if p == q else 0 for p, q in zip(x, y, strict=True)) / PEOPLE

    wins = board.win_rate("sail-pr", "dpo", column)
    assert wins is not None
    assert wins.value == pytest.approx((share(one[2], one[1]) + share(two[2], two[1])) / 2)
    assert wins.low < wins.value < wins.high
    start, back = board.win_rate("start", "dpo", column), board.win_rate("dpo", "start", column)
    assert start is not None
    assert back is not None
    assert start.value == pytest.approx((share(one[0], one[1]) + share(one[0], two[1])) / 2)
    assert start.value + back.value == pytest.approx(100)
    lone = Board([one[0], one[2].model_copy(update={"seed": 3, "learning_rate": 1e-3}), results[1]])
    assert lone.win_rate("sail-pr", "dpo", column) is None


def test_failures_and_missing_values_are_shown() -> None:
    results = [*three(), run_result("orpo", [], status="failed", error="the loss is nan | at step 3")]
    page = render_pages(results)["LEADERBOARD.md"]
    assert "| `orpo` | 0 | the loss is nan \\| at step 3 |" in details(page, "Failed runs")
    assert "| `orpo` | **failed**: the loss is nan \\| at step 3 |" in page.split("<details>")[0]
    rewards = results[1].benchmarks[0].items["items"]["reward"]
    part = {"items": {"id": list(range(PEOPLE)), "y": [None, *rewards[1:]]}}
    scored = evaluate(metric("m", "m", "u", 1, "mean", "y"), part)
    assert (scored.n_valid, scored.n_total) == (59, 60)


def test_a_row_that_is_not_measured_on_everything_yet_says_so() -> None:
    """Also where only some of its seeds are, and where the rest failed."""
    results = [*three(), *(r.model_copy(update={"seed": 1}) for r in three(1)[1:])]
    other = results[1].benchmarks[0].model_copy(update={"benchmark": "other", "protocol_hash": "c" * 16})
    results[1] = results[1].model_copy(update={"benchmarks": [*results[1].benchmarks, other]})
    assert "Not measured" not in render_pages(results)["LEADERBOARD.md"]
    results[3] = results[3].model_copy(update={"pending": ["Other"], "error": "no space"})
    page = render_pages(results)["LEADERBOARD.md"]
    assert "**Not measured yet**: Other of `dpo`. The same command goes on." in page
    scores = details(page, "All scores, with counts")
    row = next(line for line in scores.split("\n") if line.startswith("| `dpo` (2 seeds)"))
    assert row.count("(1 of 2 seeds)") == 1
    assert "| `dpo` | 1 | no space |" in details(page, "Failed runs")


def test_a_score_of_the_few_that_could_be_read_says_so() -> None:
    rewards = [1.0, 0.5, *[None] * (PEOPLE - 2)]
    rest, kls = [*[1.0] * (PEOPLE // 2), *[None] * (PEOPLE // 2)], np.ones(PEOPLE)
    pages = [
        render_pages([run_result("start", [preference_result(np.array(values, dtype=object), kls)])])["LEADERBOARD.md"]
        for values in (rewards, rest)
    ]
    sentence = f"so the score stands for a rest that chose itself: gold reward (mini) of `start` (2 of {PEOPLE})."
    assert f"**Fewer than half are valid**, {sentence}" in pages[0]
    assert "Fewer than half" not in pages[1]


def test_one_valid_verdict_alone_is_no_score() -> None:
    """There is no interval over prompts then, so no value stands without one."""
    scored = evaluate(metric("m", "m", "u", 1, "mean", "y"), {"items": {"id": [1, 2, 3], "y": [None, 7.0, None]}})
    assert (scored.value, scored.low, scored.high, scored.n_valid, scored.n_total) == (None, None, None, 1, 3)
    lone, kls = [1.0, *[None] * (PEOPLE - 1)], np.ones(PEOPLE)
    page = render_pages([run_result("start", [preference_result(np.array(lone, dtype=object), kls)])])["LEADERBOARD.md"]
    assert f"| n/a (1/{PEOPLE}) |" in page


def test_seeds_are_averaged() -> None:
    results = three() + [r.model_copy(update={"seed": 1}) for r in three(1)]
    board = Board(results)
    column = board.columns(primary=True)[0]
    cell = board.cell("dpo", column)
    assert cell is not None
    means = [np.mean(r.benchmarks[0].items["items"]["reward"]) for r in results if r.method == "dpo"]
    assert cell.interval.value == pytest.approx(np.mean(means))
    assert cell.n_total == 120


def test_differences_pair_the_seeds_that_both_have() -> None:
    """``dpo`` has seeds 0 and 1, ``sail-pr`` only 1, ``start`` is untrained and stands for every seed."""
    one, two = three(), [r.model_copy(update={"seed": 1, "learning_rate": 1e-3}) for r in three(1)]
    one[1] = one[1].model_copy(update={"learning_rate": 1e-3})
    board = Board([one[0], one[1], two[1], two[2]])
    column = board.columns(primary=True)[0]

    def rewards(result: RunResult) -> np.ndarray:
        return np.array(result.benchmarks[0].items["items"]["reward"])

    paired = board.difference("sail-pr", "dpo", column)
    assert paired is not None
    assert paired.value == pytest.approx(rewards(two[2]).mean() - rewards(two[1]).mean())
    control = board.difference("dpo", "start", column)
    assert control is not None
    each = [rewards(r).mean() - rewards(one[0]).mean() for r in (one[1], two[1])]
    assert control.value == pytest.approx(np.mean(each))
    assert control.error >= np.std(each, ddof=1) / 2**0.5


def test_training_logs_are_summed_up() -> None:
    """Means over the second half of the steps and over seeds; a method that does not log a value has an empty cell."""
    log = [
        {"loss": 1.0, "abs_u": 9.0},
        {"loss": 1.0, "abs_u": 1.0},
        {"loss": 1.0, "abs_u": 2.0},
        {"loss": 1.0, "abs_u": 3.0},
    ]
    results = three()
    results[2] = results[2].model_copy(update={"train_log": log})
    results[1] = results[1].model_copy(update={"train_log": [{"loss": 1.0, "rewards/accuracies": 0.75}]})
    section = details(render_pages(results)["LEADERBOARD.md"], "In training")
    assert "| method | accuracy on trained pairs | mean abs(u) |" in section
    assert "| `dpo` | 0.75 |  |" in section
    assert "| `sail-pr` |  | 2.5 |" in section


def test_variants_name_their_method_and_options() -> None:
    changed = {"variant_of": "sail-pr", "method": "c-0", "method_options": {"coefficient": 0}, "reference": "c-0"}
    results = [r.model_copy(update={"reference": "c-0"}) for r in three()[:2]] + [three()[2].model_copy(update=changed)]
    page = render_pages(results)["LEADERBOARD.md"]
    assert "| `c-0` | `sail-pr`: s | coefficient 0 |" in page
    assert "### To `c-0`" in details(page, "Differences, with intervals")


def test_numbers() -> None:
    assert format_number(None, "x") == format_number(float("nan"), "x") == "n/a"
    assert (format_number(0.1234, "share met"), format_number(-3.21, "win %", sign=True)) == ("0.123", "−3.2")
    hours = (0, 0.0004, 0.0083, 0.049, 0.13, 1.3, 13.4)
    assert [time_text(h) for h in hours] == ["0", "0.0004", "0.0083", "0.049", "0.13", "1.3", "13"]
    powers = {0: "0", 999.4: "999", 5000: "5000", 1e13: "10¹³", 1.0001e13: "10¹³", 6.694e12: "6.69·10¹²"}
    assert {value: power_text(value) for value in powers} == powers
    assert (power_text(9.96e12, 2), power_text(-3e11, sign=True), power_text(1e10, sign=True)) == (
        "10¹³", "−3·10¹¹", "+10¹⁰",
    )  # fmt: skip


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "seed-0.json"
    path.write_text('{"schema_version": 99}')
    with pytest.raises(UserError, match="seed-0.json is no result of schema version 1"):
        read_result(path)


def test_committed_leaderboards_are_those_of_their_results() -> None:
    from conftest import ROOT

    folders = {p.parent.parent for p in (ROOT / "results").glob("*/*/*/seed-*.json")}
    folders |= {p.parent.parent for p in (ROOT / "results" / "studies").glob("*/*/*/seed-*.json")}
    assert folders, "the repository commits at least one comparison"
    for folder in folders:
        assert stale_files(folder) == [], folder


@pytest.mark.parametrize("recipe", ["results/smollm2.yaml", "results/studies/t1-coefficient.yaml"])
def test_committed_results_are_those_of_their_recipes(recipe: str, tmp_path: Path) -> None:
    """With --results, a comparison may go on in the committed folder: same start, pairs, budget, training and search.
    Scores may be of an earlier version of a benchmark, and differ in nothing else."""
    from conftest import ROOT

    from harness.recipe.load import load_recipe
    from harness.run.plan import make_runs
    from harness.run.publish import check_folder
    from harness.store.stages import Store

    loaded = load_recipe(str(ROOT / recipe))
    try:
        runs = make_runs(loaded, loaded.budget, loaded.methods, 1, list(loaded.benchmarks), Store(tmp_path))
        key = runs[0].comparison.key
    except UserError as error:
        pytest.skip(str(error))
    results = (ROOT / recipe).parent
    results_of_recipe = read_results(results / loaded.name / loaded.budget)
    if any(raised_since(r.versions) for r in results_of_recipe):
        pytest.skip("the committed results are of an earlier version of the code, and their page says so")
    assert {r.comparison_key for r in results_of_recipe} == {key}
    for plan in runs:
        for benchmark in next(r for r in results_of_recipe if r.method == plan.name).benchmarks:
            (now,) = (b for b in plan.benchmarks if b.name == benchmark.benchmark)
            assert benchmark.protocol["version"] <= now.version
            protocol = plan.comparison.facts.protocols[now.name]
            assert protocol | {"version": benchmark.protocol["version"]} == benchmark.protocol
            assert digest(benchmark.protocol) == benchmark.protocol_hash
    check_folder(runs, results)


def test_rows_of_an_earlier_version_are_named_on_the_page(tmp_path: Path) -> None:
    old = VERSIONS | {"sampler": VERSIONS["sampler"] - 1}
    now, stale = run_result("dpo", []), run_result("sail-pr", [], versions=old)
    assert "Stale" not in render_pages([now])["LEADERBOARD.md"]
    page = render_pages([now, stale])["LEADERBOARD.md"]
    assert "**Stale** (`sail-pr`): made by an earlier version of SAIL-bench (0)." in page
    assert f"Changed since: sampler ({old['sampler']}, now {VERSIONS['sampler']})." in page
    unrecorded = render_pages([run_result("dpo", [], versions={})])["LEADERBOARD.md"]
    assert "**Stale** (all rows): made by an earlier version of SAIL-bench (0, which recorded no versions" in unrecorded
    assert "Changed since" not in unrecorded


def test_a_raised_protocol_has_one_column_on_the_page() -> None:
    """While rows are made anew: old ones are marked, their values stand apart and share no column with new ones."""
    results = three()
    for place, (version, protocol) in enumerate(((2, "b" * 16), (2, "b" * 16), (1, "a" * 16))):
        raised = {"protocol": {"version": version}, "protocol_hash": protocol}
        scored = results[place].benchmarks[0].model_copy(update=raised)
        results[place] = results[place].model_copy(update={"benchmarks": [scored]})
    results[2] = results[2].model_copy(update={"versions": VERSIONS | {"sampler": 0}})
    page = render_pages(results)["LEADERBOARD.md"]
    header, _, *rows = [line for line in page.split("\n") if line.startswith("|")][:4]
    assert header.count("gold reward") == 1 and "gold reward (mini, v2)" in header
    assert rows[1].startswith("| `sail-pr` † | stale |")
    old = details(page, "Scores under older protocols")
    assert "gold reward (mini, v1)" in old and "| `dpo` | not measured |" in old
    assert "gold reward (mini, v1), share met of `sail-pr`" in details(page, "Stale rows")


def test_rows_that_are_not_tuned_are_marked() -> None:
    """Where one row is tuned and another is not; where none is, it is said once."""
    points = [Trial(learning_rate=r, gold_reward=0.5, perplexity_ratio=1, eligible=True, seed=0) for r in (1, 2, 3)]
    rows = [r.model_copy(update={"trials": points, "learning_rate": 2.0}) for r in three()[1:]]
    at_edge = rows[1].model_copy(update={"learning_rate": 3.0})
    mixed = render_pages([three()[0], rows[0], at_edge])["LEADERBOARD.md"]
    assert "| `sail-pr` ‡ |" in mixed and "‡ not tuned" in mixed and "| `dpo` |" in mixed
    assert "* `sail-pr`: not tuned: learning rate 3 is the highest of 3 tried" in details(mixed, "Search")
    none = render_pages([rows[0].model_copy(update={"learning_rate": 1.0}), at_edge])["LEADERBOARD.md"]
    assert "**No method is tuned**" in none and "‡" not in none


OLDER = VERSIONS | {"start": 0}


@pytest.mark.parametrize(
    ("versions", "key", "goes"),
    [({}, "older", True), (OLDER, "older", True), (VERSIONS, "older", False), ({}, "same", False)],
)
def test_results_of_an_earlier_version_make_room(
    versions: dict[str, int], key: str, goes: bool, tmp_path: Path
) -> None:
    """They are renamed, never removed; those of other settings under the present version are refused as ever."""
    from harness.recipe.load import load_recipe
    from harness.run.plan import make_runs
    from harness.run.publish import check_folder, path_of, set_aside
    from harness.store.stages import Store

    recipe = load_recipe("tiny")
    plans = make_runs(recipe, recipe.budget, ["start"], 1, ["mmlu"], Store(tmp_path / "store"))
    path = path_of(plans[0], tmp_path)
    own = plans[0].comparison.key
    write_result(path, run_result("start", [], versions=versions, comparison_key=own if key == "same" else "older-key"))
    content = path.read_bytes()
    aside = set_aside(plans, tmp_path)
    if goes:
        assert aside is not None
        assert (aside / "start" / "seed-0.json").read_bytes() == content
        assert not path.exists()
        check_folder(plans, tmp_path)
    else:
        assert aside is None
        assert path.read_bytes() == content
