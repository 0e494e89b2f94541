"""Imported pairs in a comparison: ids against TRL's, log-probabilities, prices, keys, checks, a whole run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import ROOT
from kit.command import Cli, tiny_recipe
from transformers import PretrainedConfig

from harness.answer.chat import messages_of
from harness.answer.policy import Policy
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.errors import UserError
from harness.pairs.advice import CUT, EQUAL_CUT, LONG_PAIR, LONG_PROMPT, REFUSED_BY_TEMPLATE
from harness.pairs.tokenised import (
    LengthLimits,
    context_window,
    fitting_prompts,
    pair_ids,
    reference_logps,
    tokenised_pairs,
    with_reference_logps,
)
from harness.recipe.load import load_recipe
from harness.recipe.recipe import Recipe
from harness.report.imported_pairs import data_paragraph
from harness.run.plan import RunPlan, make_run, make_runs
from harness.run.run import Run
from harness.score.results import read_result
from harness.store.json_files import digest, read_json, read_rows
from harness.store.row_cache import RowCache
from harness.store.stages import Store
from harness.store.versions import raised_since

METHODS = ["start", "dpo", "simpo", "sail-pp"]


TALK = [
    {"role": "user", "content": "Two and one?"},
    {"role": "assistant", "content": "Three."},
    {"role": "user", "content": "And one more?"},
]


@pytest.fixture
def policy(load: Callable[[], Any], tokenizer: Any, tmp_path: Path) -> Policy:
    return Policy(load(), tokenizer, "tiny", meter=Meter(Ledger()), cache=RowCache(tmp_path / "rows.sqlite"))


def short(number: int) -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "messages": TALK[-1:], "chosen": "a" * (2 + i), "rejected": "b" * 4, "chosen_reward": 1.0}
        for i in range(number)
    ]


def test_reference_log_probabilities_are_the_models(policy: Policy) -> None:
    rows, left_out, kept = tokenised_pairs(policy, short(5), LengthLimits(100, 100))
    rows = list(with_reference_logps(policy, rows, 2))
    assert not left_out and not kept and [r["id"] for r in rows] == [f"r{i}" for i in range(5)]
    for row in rows:
        assert row["chosen_stopped"] and row["rejected_stopped"] and row["chosen_reward"] == 1.0
        for side in ("chosen", "rejected"):
            ids = torch.tensor([[*row["prompt_ids"], *row[f"{side}_ids"]]])
            with torch.no_grad():
                logps = torch.log_softmax(policy.model(ids).logits[0, :-1].double(), -1)
            picked = logps.gather(-1, ids[0, 1:, None])[-len(row[f"{side}_ids"]) :].sum()
            assert row[f"ref_{side}_logps"] == pytest.approx(float(picked), abs=1e-3)


def test_lengths_are_counted_dropped_or_cut(policy: Policy) -> None:
    """Prompt of 23 ids: 13 letters and the template; answers of 3 to 12 ids against 5."""
    size = len(pair_ids(policy.tokenizer, short(1)[0], policy.eos_ids).prompt)
    rows, left_out, _ = tokenised_pairs(policy, short(10), LengthLimits(100, size + 6))
    assert left_out == {LONG_PAIR: 6} and len(rows) == 4
    rows, left_out, _ = tokenised_pairs(policy, short(10), LengthLimits(100, size + 6, cut=True))
    assert left_out == {CUT: 6} and len(rows) == 10
    assert max(len(r["chosen_ids"]) for r in rows) == 6
    assert [r["chosen_stopped"] for r in rows] == [True] * 4 + [False] * 6
    same = [{"id": "x", "messages": TALK[-1:], "chosen": "one two", "rejected": "one three"}]
    assert tokenised_pairs(policy, same, LengthLimits(100, size + 4, cut=True)) == ([], {EQUAL_CUT: 1}, {})
    assert tokenised_pairs(policy, short(3), LengthLimits(size - 1, 100)) == ([], {LONG_PROMPT: 3}, {})
    assert tokenised_pairs(policy, short(3), LengthLimits(100, size)) == ([], {LONG_PROMPT: 3}, {})


def test_prompts_beyond_the_context_are_left_out_and_counted(policy: Policy) -> None:
    """Prompts to tune and evaluate with: ids counted by the tokenizer on the text as the template writes it."""
    rows = [{"id": str(n), "messages": [{"role": "user", "content": "a" * n}]} for n in (1, 80, 81, 400)]
    texts = [f"<|user|>{r['messages'][0]['content']}<|end|><|assistant|>" for r in rows]
    lengths = [len(policy.tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    policy.model.config.max_position_embeddings = lengths[1]
    assert context_window(policy) == lengths[1] == lengths[2] - 1
    assert fitting_prompts(policy, rows, context_window(policy)) == (rows[:2], {LONG_PROMPT: 2}, {})
    policy.tokenizer = deepcopy(policy.tokenizer)
    policy.tokenizer.chat_template = "{{ raise_exception('no') }}"
    assert fitting_prompts(policy, rows, context_window(policy)) == ([], {f"{REFUSED_BY_TEMPLATE}: 'no'": 4}, {})
    policy.model.config = PretrainedConfig()  # one that says nothing of a length
    assert context_window(policy) >= 10**9


def test_a_price_does_not_depend_on_what_is_cached(policy: Policy) -> None:
    rows = [((260, i), (65, 66, 256)) for i in range(7)]

    def priced() -> tuple[list[float], dict[str, float]]:
        policy.meter.ledger = Ledger()
        with policy.meter.phase("data"):
            logps = reference_logps(policy, rows, 3)
        return logps, policy.meter.ledger.entries["data"]

    (first, paid), (again, charged) = priced(), priced()
    assert first == again
    assert paid["tokens"] == charged["tokens"] == 7 * 5
    assert charged["forward_flops"] == pytest.approx(paid["forward_flops"], rel=1e-6)


def pairs(folder: Path, name: str, number: int) -> None:
    prompts = [[{"role": "user", "content": f"{name} question {i}?"}] for i in range(number)]
    rows = [
        {
            s: [*turn, {"role": "assistant", "content": f"{word} {i}"}]
            for s, word in (("chosen", "yes"), ("rejected", "no"))
        }
        for i, turn in enumerate(prompts)
    ]
    rows[-1]["chosen"][0] = rows[-1]["rejected"][0] = {"role": "user", "content": "long " * 120}
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def recipe(folder: Path, **more: Any) -> Recipe:
    """The tiny recipe on imported pairs, read from a file in ``folder``."""
    folder.mkdir(exist_ok=True)
    pairs(folder, "train", 20)
    pairs(folder, "test", 14)
    tiny = tiny_recipe()
    data = {"task": "preferences", "train": "train.jsonl", "test": "test.jsonl"}
    data |= {"tune_prompts": 4, "eval_prompts": 6, "heldout_prompts": 0, "max_new_tokens": 6}
    changes = {"data": data, "tune": {"learning_rates": [1e-3]}, "methods": METHODS, "name": "mine"}
    changes |= {"benchmarks": {"mt_bench": {"max_new_tokens": 4, "limit": 2}}}
    del tiny["oracle"]
    (folder / "mine.yaml").write_text(yaml.safe_dump(tiny | changes | more))
    return load_recipe(str(folder / "mine.yaml"))


def planned(loaded: Recipe, store: Path, methods: list[str] = METHODS) -> list[RunPlan]:
    return make_runs(loaded, loaded.budget, methods, 1, list(loaded.benchmarks), Store(store))


REWARD: dict[str, Any] = {"name": "reward_model", "options": {"model": "org/name"}}
TWO = {"learning_rates": [1e-3, 2e-3]}


@pytest.mark.parametrize(
    ("more", "method", "sentence"),
    [
        ({}, "sail-pr", "The method sail-pr asks an oracle for labels and the recipe has none: set oracle:"),
        ({}, "iterative-dpo", "The method iterative-dpo asks an oracle"),
        ({"tune": TWO}, "dpo", "A search needs a reward and the recipe has no oracle: leave one trial, or set"),
        ({"benchmarks": {"preference": {}}}, "dpo", "The benchmark preference needs a reward"),
        ({"oracle": "constraints"}, "dpo", "The oracle constraints knows its own prompts only"),
        ({"oracle": REWARD, "eval_oracle": "constraints"}, "dpo", "The oracle constraints knows its own prompts only"),
    ],
)
def test_an_oracle_is_needed_where_something_is_scored(
    more: dict[str, Any], method: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        planned(recipe(tmp_path / "r", **more), tmp_path, [method])
    assert str(caught.value).startswith(sentence)
    planned(recipe(tmp_path / "r", **more | {"oracle": REWARD, "eval_oracle": None}), tmp_path, [method])


def test_the_projects_own_task_needs_its_oracle(tmp_path: Path) -> None:
    loaded = load_recipe("tiny").model_copy(update={"oracle": recipe(tmp_path / "r").oracle})
    with pytest.raises(UserError, match="samples pairs that an oracle must label"):
        planned(loaded, tmp_path)


def test_stage_keys_of_earlier_recipes_stay(tmp_path: Path) -> None:
    """The committed results were made under exactly these keys, each by the recipe that its page names."""
    made_by = {"iso-flops-1e13": "smollm2", "pairs-64": str(ROOT / "results" / "smollm2.yaml")}
    compared = set()
    for path in sorted((ROOT / "results" / "smollm2").glob("*/*/seed-0.json")):
        result = read_result(path)
        loaded = load_recipe(made_by[result.budget["name"]])
        if raised_since(result.versions):
            pytest.skip("the committed results are of an earlier version of the code, and their page says so")
        try:
            plan = make_run(loaded, result.budget["name"], result.method, 0, [], Store(tmp_path))
        except UserError as error:
            pytest.skip(str(error))
        assert (plan.comparison.facts.pairs.key, plan.comparison.key) == (result.data["pairs"], result.comparison_key)
        assert loaded.hash == result.recipe_hash
        measured = {b.benchmark: b for b in result.benchmarks}
        for benchmark in plan.benchmarks:
            if benchmark.name in measured:
                was = measured[benchmark.name]
                assert digest(was.protocol) == was.protocol_hash
                assert (
                    plan.comparison.facts.protocols[benchmark.name] | {"version": was.protocol["version"]}
                    == was.protocol
                )
        compared.add(result.budget["name"])
    assert compared == set(made_by)


def test_prompts_of_other_benchmarks_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the mini sets, and of what --data-dir has; each holds one training prompt, written otherwise."""
    from benchmarks.shared.mini_set import read_mini_set

    questions = {name: read_mini_set(name, "test")[0]["question"] for name in ("mmlu", "arc_challenge")}
    folder = tmp_path / "data" / "rewardbench"
    folder.mkdir(parents=True)
    pair = {"prompt": "TRAIN question 3", "chosen": "a", "rejected": "b", "subset": "s"}
    (folder / "filtered.jsonl").write_text("".join(json.dumps(r) + "\n" for r in (pair, pair | {"prompt": "other"})))
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path / "data"))
    imported = recipe(tmp_path / "r", benchmarks={"mmlu": {}, "arc_challenge": {}, "rewardbench": {}})
    rows = [json.loads(line) for line in (tmp_path / "r" / "train.jsonl").read_text().split("\n") if line]
    for row, text in zip(rows, questions.values(), strict=False):
        for side in ("chosen", "rejected"):
            row[side][0]["content"] = text.upper()
    (tmp_path / "r" / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    overlap = planned(imported, tmp_path, ["dpo"])[0].comparison.overlap
    assert {name: (o["prompts"], o["equal"]) for name, o in overlap.items()} == {
        "mmlu": (57, 1),
        "arc_challenge": (60, 1),
        "rewardbench": (2, 1),
    }


def test_keys_name_contents_not_places(tmp_path: Path) -> None:
    first, moved = recipe(tmp_path / "a"), recipe(tmp_path / "b")
    one, two = (planned(loaded, tmp_path, ["dpo"])[0].comparison for loaded in (first, moved))
    assert one.facts.pairs == two.facts.pairs and one.key == two.key and first.hash == moved.hash
    assert str(tmp_path) not in json.dumps(one.facts.dump())
    with (tmp_path / "b" / "test.jsonl").open("a") as handle:
        handle.write("\n")
    changed = planned(load_recipe(str(tmp_path / "b" / "mine.yaml")), tmp_path, ["dpo"])[0].comparison
    assert changed.facts.pairs.key != one.facts.pairs.key
    plain = planned(recipe(tmp_path / "a"), tmp_path, ["dpo"])[0]
    rewarded = planned(recipe(tmp_path / "a", oracle=REWARD), tmp_path, ["dpo"])[0]
    assert rewarded.comparison.facts.pairs == one.facts.pairs, "train-reward needs the pairs before the oracle exists"
    assert rewarded.trials[0].train.key != plain.trials[0].train.key
    assert rewarded.comparison.key != one.key


@pytest.mark.slow
def test_pairs_are_stored_counted_and_paid_at_first_use(tmp_path: Path) -> None:
    plan = planned(recipe(tmp_path / "r"), tmp_path / "store", ["dpo"])[0]
    run = Run(plan, lambda kind, value: None)
    folder = run.pairs()
    counts = read_json(folder / "counts.json")
    assert counts["train"] == {"pairs": 15, "left_out": {}, "kept": {}}
    assert counts["files"]["train"]["left_out"] == {"evaluation prompts": 1}, "the long one"
    assert counts["tune"] == {"prompts": 4, "left_out": {}, "kept": {}}
    assert counts["heldout"] == {"pairs": 7, "left_out": {"prompts too long": 1}, "kept": {}}
    stored = read_rows(folder / "train.jsonl")
    assert {r["id"] for r in stored} == {p["id"] for p in run.prompts["train"]}
    assert messages_of(run.prompts["eval"][0]) == [{"role": "user", "content": "test question 0?"}]
    run.train(plan.trials[0].train)
    ledger = Ledger.load(run.store.manifest(plan.trials[0].train.stage)["ledger"])
    spent = run.store.manifest(plan.comparison.facts.pairs.stage)["ledger"]["phases"]["data"]
    used = len(ledger.bought)
    assert 12 <= used == ledger.get("data", "pairs") <= 15, "12 in the first epoch of full batches, 4 in the second"
    sides = [len(r["prompt_ids"]) + len(r[f"{s}_ids"]) for r in stored for s in ("chosen", "rejected")]
    assert spent["tokens"] == sum(sides)
    assert ledger.get("data", "tokens") == pytest.approx(sum(sides) * used / 15, abs=1)
    assert ledger.spent("oracle_calls") == ledger.spent("generated_tokens") == 0


@pytest.mark.slow
def test_a_comparison_from_files_to_page(tmp_path: Path, cli: Cli) -> None:
    """Without an oracle; then a reward model is made from the same recipe, and ranks what it trained."""
    folder = tmp_path / "r"
    recipe(folder)
    shutil.move(folder / "test.jsonl", tmp_path / "test.jsonl")
    more = ["--data-dir", tmp_path, "--store", tmp_path / "store"]
    done = cli("compare", folder / "mine.yaml", *more, "--results", tmp_path / "results", "--methods", "start,dpo")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "results" / "mine" / "pairs-16" / "LEADERBOARD.md").read_text()
    assert "**Oracle**: none" in page and "not asked" in page
    assert "15 training pairs, 7 held-out pairs (1 prompts too long)" in page
    assert "prompts of other benchmarks: mt_bench 0 equal" in page
    assert str(tmp_path) not in page
    reward = {"name": "reward_model", "options": {"model": str(tmp_path / "reward")}}
    recipe(folder, oracle=reward, benchmarks={"preference": {"max_new_tokens": 6}}, name="rewarded", tune=TWO)
    (tmp_path / "test.jsonl").unlink()
    trained = cli("train-reward", folder / "mine.yaml", "--out", tmp_path / "reward", *more)
    assert trained.returncode == 0, trained.stderr
    again = cli("compare", folder / "mine.yaml", *more, "--results", tmp_path / "results", "--methods", "start,sail-pr")
    assert again.returncode == 0, again.stderr
    result = read_result(tmp_path / "results" / "rewarded" / "pairs-16" / "sail-pr" / "seed-0.json")
    scored = result.benchmark("preference")
    assert scored is not None and scored.label == "own data" and scored.metric("gold_reward").n_valid == 6
    assert result.learning_rate in TWO["learning_rates"]
    # no oracle in training, one in evaluation: the honest setting for offline methods
    changes = {"benchmarks": {"preference": {"max_new_tokens": 6}}, "eval_oracle": reward, "name": "judged"}
    recipe(folder, **changes)
    done = cli("compare", folder / "mine.yaml", *more, "--results", tmp_path / "results", "--methods", "start,dpo")
    assert done.returncode == 0, done.stderr
    result = read_result(tmp_path / "results" / "judged" / "pairs-16" / "dpo" / "seed-0.json")
    scored = result.benchmark("preference")
    assert scored is not None and scored.metric("gold_reward").n_valid == 6
    assert result.oracles["training"]["oracle"] == "none"


def test_the_page_says_nothing_of_sampled_pairs() -> None:
    assert data_paragraph({"pairs": "x", "train": {"pairs": 3, "ties": 1}}) == ""


def test_bad_data_are_reported_before_any_model(tmp_path: Path, cli: Cli) -> None:
    folder = tmp_path / "r"
    recipe(folder)
    with (folder / "train.jsonl").open("a") as handle:
        handle.write('{"chosen": "x"}\n')
    done = cli("compare", folder / "mine.yaml", "--store", tmp_path / "store", "--results", tmp_path / "results")
    assert done.returncode == 2
    assert "train.jsonl, line 21: the key 'rejected' is missing" in done.stderr
    assert not (tmp_path / "store").exists()
