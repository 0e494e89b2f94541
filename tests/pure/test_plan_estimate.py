"""What ``plan`` says of hours, memory, disk and money, from ``config.json`` alone."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from kit.command import Cli

from harness.budget.device_time import CACHE_TOKENS, Sampler, decoding_seconds
from harness.budget.forecast import Corrections, Lengths
from harness.budget.machines import DEVICES, machine_at_hand, machine_named
from harness.budget.memory import PRECISIONS, TrainingBatch, training_memory
from harness.budget.model_size import ModelSize, size_of_config
from harness.errors import UserError
from harness.recipe.load import load_recipe
from harness.recipe.recipe import Recipe
from harness.run.estimate import Estimate, estimate
from harness.run.outline import Outline, outline_of_plans, outline_of_recipe
from harness.run.plan import make_runs
from harness.run.spending import KNOWN_CONFIGS, evaluation_cost
from harness.run.target import ThisMachine
from harness.score.results import read_result
from harness.store.settings import Settings, using
from harness.store.stages import Store

LLAMA3_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
HUB = f"HuggingFaceH4/ultrafeedback_binarized@{40 * '0'}"
SPLITS = {"train": f"{HUB}:train_prefs", "test": f"{HUB}:test_prefs"}
PAPER: dict[str, Any] = {
    "name": "paper",
    "dtype": "bfloat16",
    "data": {
        "task": "preferences",
        **SPLITS,
        "tune_prompts": 1,
        "eval_prompts": 500,
    },
    "budget": "paper-steps",
    "train": {"batch_size": 4, "gradient_accumulation": 8, "max_length": 2048, "lora": {"r": 64, "alpha": 16}},
    "tune": {"learning_rates": [1.0e-5]},
    "methods": ["start", "dpo"],
    "benchmarks": {"alpaca_eval_2": {}},
    "judge": {"model": "gpt-4", "price_in": 10, "price_out": 30},
    "scoring_batch_size": 2,
}
FULL = {"dtype": "float32", "train": PAPER["train"] | {"lora": None}}


def write(folder: Path, **changes: Any) -> str:
    """A recipe file for Llama-3-8B, whose folder has a configuration and no weights."""
    (folder / "llama").mkdir(exist_ok=True)
    (folder / "llama/config.json").write_text(json.dumps(LLAMA3_8B))
    path = folder / "paper.yaml"
    path.write_text(yaml.safe_dump(PAPER | {"model": str(folder / "llama")} | changes))
    return str(path)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def eight_billion(lora: bool = True) -> ModelSize:
    size = size_of_config(LLAMA3_8B, 0 if lora else None, 64 if lora else 0)
    assert size is not None
    return size


def test_parameters_of_published_models() -> None:
    """Of the model cards: Llama-3-8B has 8,030,261,248, SmolLM2-135M 134,515,008."""
    assert eight_billion().parameters == 8_030_261_248
    small = size_of_config(KNOWN_CONFIGS["smollm2"], None, 0)
    assert small is not None and small.parameters == 134_515_008


def test_eight_billion_weights_need_what_is_known_of_them() -> None:
    """16 bytes a weight in float32 with AdamW, and 131,072 bytes of cache a token."""
    batch = TrainingBatch(2, 512, 256, checkpointing=True)
    parts = training_memory(eight_billion(lora=False), batch, PRECISIONS["float32"]).parts
    assert sum(parts[name] for name in ("weights", "optimiser", "gradients")) == pytest.approx(16 * 8.03e9, rel=1e-3)
    assert eight_billion().cached * 2 == 131_072


@pytest.mark.parametrize(("engine", "least", "most"), [("vllm", 3000, 12000), ("transformers", 500, 2800)])
def test_tokens_a_second_of_8b_on_an_h100(engine: str, least: float, most: float) -> None:
    """About 6,000 by vLLM, and 700 to 1,400 by a sampler that launches its operations one by one, within a factor 2."""
    lengths, answers = Lengths(200, 300, 500), 512
    seconds = decoding_seconds(
        DEVICES["h100"], eight_billion(), answers, lengths, Sampler(engine, 64, 512), PRECISIONS["bf16"]
    )
    assert least < answers * 300 / seconds < most


def test_the_sampler_bounds_its_cache_as_assumed() -> None:
    text = (ROOT / "sail/sampling.py").read_text()
    bound = re.search(r"^CACHE_TOKENS = (.+)$", text, re.M)
    assert bound is not None and eval(bound[1]) == CACHE_TOKENS


def small_runs(folder: Path, budget: str, methods: Sequence[str], cores: int) -> Estimate:
    """The built-in recipe `smollm2` on CPU cores, before anything was measured there."""
    recipe = load_recipe("smollm2")
    runs = make_runs(recipe, budget, list(methods), 1, list(recipe.benchmarks), Store(folder))
    outline = outline_of_plans(runs, KNOWN_CONFIGS["smollm2"], lambda name: Corrections())
    return estimate(outline, machine_named("cpu", cores), cores, None)


def test_seconds_of_smollm2_against_the_published_ones(tmp_path: Path) -> None:
    """Within a factor of 2 of the ledgers in results/smollm2/iso-flops-1e13, where each run had one core. (The runs of
    results/smollm2/pairs-64 shared one GPU, eight at a time, and their seconds are not those of a run alone.)"""
    names = ("start", "dpo", "sail-pr", "sail-pp", "sail-dp")
    results = {n: read_result(ROOT / f"results/smollm2/iso-flops-1e13/{n}/seed-0.json") for n in names}

    def measured(name: str, *phases: str) -> float:
        return sum(results[name].ledger["phases"].get(phase, {}).get("seconds", 0.0) for phase in phases)

    for name in names:
        predicted = small_runs(tmp_path / name, "iso-flops-1e13", [name], 1).seconds
        trained = 2 * measured(name, "train", "reference", "generate")  # two trials; one is the run's own training
        assert trained / 2 <= predicted.get("training", 0.0) <= 2 * trained, name
        for phase, ledger in (("evaluation", "eval"), ("judge", "judge")):
            assert measured(name, ledger) / 2 < predicted[phase] < 2 * measured(name, ledger), (name, phase)


def test_the_whole_comparison_against_the_time_in_the_readme(tmp_path: Path) -> None:
    """The time that the README says `compare smollm2` took on two cores, within a factor of 2."""
    shown = re.search(r"compare smollm2 .*: (\d+) min (\d+) s on 2 cores", (ROOT / "README.md").read_text())
    assert shown is not None
    taken = 60 * int(shown[1]) + int(shown[2])
    predicted = small_runs(tmp_path, "pairs-64", load_recipe("smollm2").methods, 2).wall
    assert predicted is not None and taken / 2 < predicted < 2 * taken


def spared(folder: Path, methods: list[str], phase: str) -> float:
    """What is taken off the time from start to end for what is computed once, as a share of one of two equal parts of
    a phase. Devices are charged for all of it."""
    recipe = load_recipe("smollm2")
    runs = make_runs(recipe, "pairs-64", methods, 1, ["mmlu"], Store(folder))
    outline = outline_of_plans(runs, KNOWN_CONFIGS["smollm2"], lambda name: Corrections())
    predicted = estimate(outline, machine_named("cpu", 1), 1, None)
    assert predicted.wall is not None
    return (sum(predicted.seconds.values()) - predicted.wall) / (predicted.seconds[phase] / 2)


def test_what_is_shared_is_computed_once(tmp_path: Path) -> None:
    """An adapter on the top 8 of 30 blocks. Of multiple choice, the second policy computes 8/30. Of two trainings on
    stored pairs, the second took 0.62 to 0.66 of the time (docs/design.md); those that sample share nothing."""
    assert spared(tmp_path / "read", ["start", "sail-pr"], "evaluation") == pytest.approx(22 / 30)
    assert 0.3 < spared(tmp_path / "trained", ["dpo"], "training") < 0.45


def outline(**changes: Any) -> Outline:
    recipe = Recipe.model_validate(PAPER | {"model": "org/name"} | changes)
    return outline_of_recipe(recipe, recipe.budget, recipe.methods, 1, list(recipe.benchmarks), LLAMA3_8B)


def test_what_does_not_fit_names_settings_that_fit() -> None:
    """Each set of settings that is named fits when it is tried, and nothing is named where all fits."""
    assert estimate(outline(), machine_named("h100", 2), 1, None).shortage is None
    for device in ("h100", "l4", "rtx4090"):
        too_large = estimate(outline(**FULL), machine_named(device, 2), 1, None)
        assert too_large.shortage is not None
        named = dict(re.findall(r"([\w.]+): (\d+|true|bf16|\{r: \d+\})", too_large.shortage.split(" set ")[1]))
        assert named.pop("precision") == "bf16" and named.pop("train.lora") == "{r: 16}"
        train = PAPER["train"] | {"lora": {"r": 16}}
        train |= {key[6:]: json.loads(value) for key, value in named.items() if key.startswith("train.")}
        others = {key: json.loads(value) for key, value in named.items() if not key.startswith("train.")}
        train.pop("gradient_checkpointing", None)
        assert train["batch_size"] * train["gradient_accumulation"] == 32
        assert estimate(outline(train=train, **others), machine_named(device, 2), 1, None).shortage is None, device


def test_nothing_fits_where_the_weights_do_not() -> None:
    small = replace(machine_named("l4", 2), device=replace(DEVICES["l4"], memory=8e9))
    shortage = estimate(outline(), small, 1, None).shortage
    assert shortage is not None and "take a larger device or a smaller model" in shortage


def test_more_workers_shorten_the_wall_and_cost_their_devices() -> None:
    many = outline(methods=["dpo", "ipo", "simpo", "hinge"])
    one = estimate(many, machine_named("h100", 2), 1, None)
    four = estimate(many, machine_named("h100x4", 2), 4, None)
    assert one.wall is not None and four.wall is not None
    assert sum(one.seconds.values()) == pytest.approx(sum(four.seconds.values()))
    shared = one.seconds["pairs"]
    assert four.wall == pytest.approx(shared + (one.wall - shared) / 4)
    assert four.money.parts["devices"] == pytest.approx(four.wall / 3600 * 4 * 3.0)


def test_float32_is_fast_only_where_the_recipe_allows_tf32() -> None:
    """An H100 has 67 TFLOP/s in float32 and 495 by TF32, which is off unless a recipe sets it."""
    slow, fast = (
        estimate(outline(dtype="float32", tf32=tf32), machine_named("h100", 2), 1, None) for tf32 in (False, True)
    )
    assert slow.seconds["pairs"] / fast.seconds["pairs"] == pytest.approx(495 / 67)
    assert slow.seconds["training"] > 2 * fast.seconds["training"]


@pytest.mark.parametrize("name", ["qwen-0.5b-safe", "zephyr-7b-ultrafeedback", "llama3-8b-ultrafeedback"])
def test_a_start_policy_is_stored_in_its_own_precision(name: str) -> None:
    """The models of the paper's recipes are published in bfloat16: 2 bytes a weight."""
    recipe = load_recipe(name)
    config = KNOWN_CONFIGS[recipe.model.partition("@")[0]]
    planned = outline_of_recipe(recipe, recipe.budget, recipe.methods, 1, list(recipe.benchmarks), config)
    size = size_of_config(config, None, 0)
    assert size is not None
    assert estimate(planned, machine_named("h100", 2), 1, None).disk["start policy"] == 2 * size.parameters


def test_the_costs_in_the_documentation_are_those_of_plan() -> None:
    """Each line of the table of docs/gpu.md: hours, memory, disk and money."""
    recipe = ""
    lines = re.findall(r"^\| (`[^`]+`)? ?\| `(h100x\d)` \|(.+)\|$", (ROOT / "docs/gpu.md").read_text(), re.M)
    assert len(lines) == 6
    for name, machine, cells in lines:
        recipe = name.strip("`") or recipe
        hours, _, memory, disk, money = cells.split(" | ")
        spec = load_recipe(recipe)
        config = KNOWN_CONFIGS[spec.model.partition("@")[0]]
        planned = outline_of_recipe(spec, spec.budget, spec.methods, 1, list(spec.benchmarks), config)
        target = machine_named(machine, 2)
        predicted = estimate(planned, target, target.count, None)
        assert predicted.wall is not None and float(hours) == pytest.approx(predicted.wall / 3600, abs=0.06)
        assert float(memory.split()[0]) == pytest.approx(predicted.peaks[0].total / 2**30, abs=0.06)
        assert float(disk.split()[0]) == pytest.approx(sum(predicted.disk.values()) / 1e9, abs=0.06)
        assert [float(amount) for amount in money.split(",")] == pytest.approx(
            [predicted.money.parts["devices"], predicted.money.parts["judge"]], abs=0.6
        )


def test_a_reward_model_of_the_evaluation_alone_is_left_out_in_words() -> None:
    reward = {"name": "reward_model", "options": {"model": "org/reward"}}
    predicted = estimate(outline(eval_oracle=reward), machine_named("h100", 2), 1, None)
    assert "time and memory of the reward model" in predicted.unsaid


def test_memory_that_is_not_counted_is_named() -> None:
    plain = estimate(outline(), machine_named("h100", 2), 1, None).unsaid
    assert not any("memory of" in sentence for sentence in plain)
    vllm = outline(engine="vllm")
    assert not any("memory of" in s for s in estimate(vllm, machine_named("h100", 2), 1, None).unsaid)
    assert "the memory of vLLM on a CPU" in estimate(vllm, machine_named("cpu", 1), 1, None).unsaid


def test_money_of_the_judge_and_of_an_hour() -> None:
    """805 AlpacaEval calls a policy of 1,300 tokens in and 1 out, at 10 and 30 a million."""
    predicted = estimate(outline(), machine_named("h100", 2), 1, 7.0)
    assert predicted.calls["judge"] == 2 * 805
    assert predicted.money.parts["judge"] == pytest.approx(2 * 805 * (1300 * 10 + 30) / 1e6)
    assert predicted.wall is not None
    assert predicted.money.parts["devices"] == pytest.approx(7 * predicted.wall / 3600)
    priced = {"prices": {"device_hour": 2.0, "judge_call": 0.5}}
    predicted = estimate(outline(**priced), machine_named("h100", 2), 1, None)
    assert predicted.money.parts["judge"] == 805 and predicted.money.hour == 2.0


def test_official_questions_cost_more_than_a_mini_set() -> None:
    from benchmarks.lmeval.official import MMLU5
    from benchmarks.mmlu import MMLU
    from harness.methods.start import Start

    mini, official = (evaluation_cost(b, 0, Start()) for b in (MMLU(), MMLU5()))
    assert mini is not None and official is not None
    assert official.read > 100 * mini.read > 0


def test_machines_by_name() -> None:
    assert machine_named("h100x8", 2).count == 8
    assert machine_named("rtx4090x2", 2).device.name == "rtx4090"
    assert machine_named("mi300x", 2).count == 1 and machine_named("mi300xx4", 2).count == 4
    assert machine_named("H100x8", 2).name == "8 x h100"
    with pytest.raises(UserError, match="a100-80 or a100-40"):
        machine_named("a100", 2)
    with pytest.raises(UserError, match="did you mean 'h100'"):
        machine_named("h1000", 2)
    with pytest.raises(UserError, match="at least 1"):
        machine_named("h100x0", 2)


def test_the_machine_at_hand() -> None:
    listed = [{"name": "NVIDIA A100-SXM4-40GB", "memory.total": "40960 MiB", "driver_version": "1"}]
    assert machine_at_hand(listed, ["0"], 2).device.name == "a100-40"
    assert machine_at_hand([listed[0] | {"name": "NVIDIA H100 80GB HBM3"}] * 8, [*"01234567"], 2).name == "8 x h100"
    unknown = machine_at_hand([listed[0] | {"name": "GeForce 9999"}], ["0"], 2)
    assert not unknown.has_speed and unknown.device.memory == 40960 * 2**20
    predicted = estimate(outline(), unknown, 1, None)
    assert (
        predicted.wall is None and predicted.peaks and "the speed of GeForce 9999 is not known" in predicted.unsaid[-1]
    )
    assert machine_at_hand([], [], 2).device.name == "cpu"


def test_the_command_prints_hours_memory_disk_and_money(cli: Cli, tmp_path: Path) -> None:
    """Without weights and without the pairs, which are on the Hub."""
    shown = cli("plan", write(tmp_path), "--machine", "h100x1", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "typical texts stand for data" in shown.stdout
    for line in (
        r"hours +\d",
        r"memory +\d.* GiB",
        r"disk +\d.* GB",
        r"judge calls +1,610",
        r"money +USD \d",
        "Assumed: ",
    ):
        assert re.search(line, shown.stdout), line


def test_official_questions_cost_more_than_the_mini_set() -> None:
    """14,042 of about 110 tokens, with five more for each 16, against the 57 of the mini set by the letters of
    lm-eval's zero-shot prompt (hendrycks_test)."""
    frame = "The following are multiple choice questions (with answers) about .\n\n\nA. \nB. \nC. \nD. \nAnswer:"
    spent, mini = {}, [json.loads(line) for line in (ROOT / "benchmarks/mmlu/mini/test.jsonl").read_text().splitlines()]
    for name in ("mmlu", "mmlu_official"):
        recipe = Recipe.model_validate(PAPER | {"model": "smollm2", "benchmarks": {name: {}}})
        outlined = outline_of_recipe(recipe, recipe.budget, ["start"], 1, [name], KNOWN_CONFIGS["smollm2"])
        spent[name] = estimate(outlined, machine_named("h100", 2), 1, None).seconds["evaluation"]
    letters = sum(len(frame + row["subject"] + row["question"] + "".join(row["choices"])) for row in mini)
    expected = 14_042 * 110 * (1 + 5 / 16) / (letters / 4)
    assert len(mini) == 57
    assert spent["mmlu_official"] / spent["mmlu"] == pytest.approx(expected, rel=0.15)


def test_the_command_refuses_what_cannot_fit(cli: Cli, tmp_path: Path) -> None:
    shown = cli("plan", write(tmp_path, **FULL), "--machine", "h100", cwd=tmp_path)
    assert shown.returncode == 2
    assert re.search(r"needs 1\d\d\.\d GiB, and a run has 73\.\d GiB on 1 x h100: set train\.lora", shown.stderr)
    assert "hours" in shown.stdout


def test_a_configuration_of_no_model_is_a_sentence(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "llama/config.json").write_text("{}")
    shown = cli("plan", path, "--machine", "h100", cwd=tmp_path)
    assert shown.returncode == 0 and "since transformers makes no model of this config.json" in shown.stdout
    for text, reason in (("{", "cannot be read"), ("[1]", "holds no JSON object")):
        (tmp_path / "llama/config.json").write_text(text)
        shown = cli("plan", path, "--machine", "h100", cwd=tmp_path)
        assert shown.returncode == 2 and reason in shown.stderr and "Traceback" not in shown.stderr


def test_a_configuration_out_of_reach_is_one_line(cli: Cli, tmp_path: Path) -> None:
    shown = cli("plan", write(tmp_path, model="org/absent"), "--machine", "h100", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "Hours and memory are left out: The configuration of org/absent cannot be read" in shown.stdout
    assert "hours        not known" in shown.stdout and "judge calls" in shown.stdout


def test_compare_only_warns(tmp_path: Path) -> None:
    """A configuration larger than any machine; no weights."""
    (tmp_path / "huge").mkdir()
    huge = LLAMA3_8B | {"hidden_size": 2**16, "intermediate_size": 2**18}
    (tmp_path / "huge/config.json").write_text(json.dumps(huge))
    tiny = load_recipe("tiny").model_dump(mode="json")
    recipe = Recipe.model_validate(tiny | {"model": str(tmp_path / "huge")})
    with using(Settings()):
        runs = make_runs(recipe, recipe.budget, ["dpo"], 1, list(recipe.benchmarks), Store(tmp_path / "store"))
        warning = ThisMachine(runs).warning(1)
        assert warning is not None and "take a larger device" in warning
        tiny_runs = make_runs(load_recipe("tiny"), recipe.budget, ["dpo"], 1, ["mmlu"], Store(tmp_path / "store"))
        assert ThisMachine(tiny_runs).warning(1) is None
