"""RewardBench and pairs in its format: data, implicit rewards, reward models, sections, errors, the commands."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from benchmarks.rewardbench import RewardBench, RewardBenchOptions, encode_answers
from benchmarks.rewardbench.accuracy import score_pairs
from benchmarks.rewardbench.pairs import REVISION, _read_hub, draw_pairs, find_pairs_file, read_pairs
from benchmarks.rewardbench.score_models import rewards_of_answers
from benchmarks.rewardbench.sections import OFFICIAL_SIZE, SECTIONS, SIZES, WEIGHTS, set_label
from harness.answer.policy import Policy
from harness.benchmark import EvalContext, Row, benchmark_result
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.cli import main
from harness.errors import UserError
from harness.judge.local import LocalJudge
from harness.oracles.constraints import ConstraintOracle
from harness.oracles.metered import MeteredOracle
from harness.oracles.reward_model import RewardModel, RewardModelOptions
from harness.score.metrics import evaluate

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
ANSWERS = ["yes", "no, never", "a longer answer", "maybe", "so it is", "not at all", "three", "four words are here"]


def own_pairs(count: int = 12) -> list[Row]:
    """Pairs of two subsets; the last one holds the same answer twice."""
    rows = [
        {
            "prompt": f"Question {i}?",
            "chosen": ANSWERS[i % 8],
            "rejected": ANSWERS[(3 * i + 1) % 8],
            "subset": "mine" if i % 3 else "other",
            "id": i,
        }
        for i in range(count)
    ]
    for row in rows:
        if row["chosen"] == row["rejected"]:
            row["rejected"] += " indeed"
    rows[-1]["rejected"] = rows[-1]["chosen"]
    return rows


def write(folder: Path, rows: Sequence[Row], name: str = "filtered.jsonl") -> Path:
    path = folder / "rewardbench" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path))
    write(tmp_path, own_pairs())
    return tmp_path


@pytest.fixture
def context(load: Callable[[], Any], tokenizer: Any) -> EvalContext:
    """The tiny policy, moved a little, against the tiny start policy."""
    from training_kit import perturb

    meter = Meter(Ledger())
    policy = Policy(perturb(load(), scale=0.01), tokenizer, "moved", meter=meter, cache=None)
    start = Policy(load(), tokenizer, "start", meter=meter, cache=None)
    return EvalContext(policy, start, LocalJudge(start), MeteredOracle(ConstraintOracle(), Ledger()), [], [], 4)


def plain(model: Any, tokenizer: Any, prompt: str, answer: str) -> tuple[float, int]:
    """log pi of an answer and its end, by one forward of the text as the tiny template writes it; and its tokens."""
    head = tokenizer.encode(f"<|user|>{prompt}<|end|><|assistant|>", add_special_tokens=False)
    tail = tokenizer.encode(f"{answer}<|end|>", add_special_tokens=False)
    with torch.no_grad():
        logps = torch.log_softmax(model(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1], -1)
    return float(logps[range(len(tail)), tail].sum()), len(tail)


def test_accuracies_by_plain_forwards(folder: Path, context: EvalContext, tokenizer: Any) -> None:
    benchmark = RewardBench()
    rows = json.loads(json.dumps(benchmark.answer(context)))
    found = benchmark_result(benchmark, rows, benchmark.protocol(), None)
    expected: dict[str, list[float]] = {"accuracy": [], "summed": [], "per_token": []}
    for row in own_pairs()[:-1]:
        sides = [plain(context.policy.model, tokenizer, row["prompt"], row[s]) for s in ("chosen", "rejected")]
        base = [plain(context.start.model, tokenizer, row["prompt"], row[s])[0] for s in ("chosen", "rejected")]
        expected["accuracy"].append(float(sides[0][0] - base[0] > sides[1][0] - base[1]))
        expected["summed"].append(float(sides[0][0] > sides[1][0]))
        expected["per_token"].append(float(sides[0][0] / sides[0][1] > sides[1][0] / sides[1][1]))
    assert len({tuple(v) for v in expected.values()}) == 3
    for name, values in expected.items():
        assert found.items["items"][name] == [*values, None]
        assert found.metric(name).value == pytest.approx(100 * np.mean(values), abs=1e-5)
        assert (found.metric(name).n_valid, found.metric(name).n_total) == (11, 12)
    main_metric = next(m for m in found.metrics if m.primary)
    assert (main_metric.name, main_metric.title) == ("accuracy", "RewardBench-format pairs, mean")
    assert found.label == "own set, 12 pairs"
    assert set(found.items["items"]["subject"]) == {"mine", "other"}


def test_start_is_at_fifty_and_has_a_value_without_a_reference(folder: Path, context: EvalContext) -> None:
    context.policy = context.start
    benchmark = RewardBench()
    found = benchmark_result(benchmark, benchmark.answer(context), benchmark.protocol(), None)
    assert found.metric("accuracy").value == 50
    assert found.metric("summed").value not in (None, 50)


def test_long_answers_are_cut_and_long_prompts_are_not_valid(
    folder: Path, context: EvalContext, tokenizer: Any
) -> None:
    rows = [
        {"prompt": "Hi?", "chosen": "a" * 50, "rejected": "a" * 9 + "b" * 50, "subset": "s"},
        {"prompt": "Hi?" * 40, "chosen": "a", "rejected": "b", "subset": "s"},
        {"prompt": "Hi?", "chosen": "c" * 60, "rejected": "c" * 70, "subset": "s"},
    ]
    write(folder, rows)
    found = RewardBench(RewardBenchOptions(max_length=20)).answer(context)
    assert found[0]["policy"]["tokens"] == [14, 14]  # of 20, six are the prompt with its turns
    assert found[1]["policy"] is None  # no room
    assert found[2]["policy"] is None  # cut, both are one


def test_no_more_is_read_than_the_model_holds(folder: Path, context: EvalContext) -> None:
    """The default of max_length with a model of 20 tokens is 20."""
    write(folder, [{"prompt": "Hi?", "chosen": "a" * 50, "rejected": "a" * 9 + "b" * 50, "subset": "s"}])
    for policy in (context.policy, context.start):
        policy.model.config.max_position_embeddings = 20
    found = RewardBench().answer(context)
    assert found == RewardBench(RewardBenchOptions(max_length=20)).answer(context)
    assert found[0]["policy"]["tokens"] == [14, 14]


def test_templates_that_write_a_finished_turn_otherwise(load: Callable[[], Any], tokenizer: Any) -> None:
    import copy

    usual = Policy(load(), tokenizer, "p", meter=Meter(Ledger()), cache=None)
    head, (tail,) = encode_answers(usual, "Hi?", ["yes"])
    assert tokenizer.decode([*head, *tail]) == "<|user|>Hi?<|end|><|assistant|>yes<|end|>"
    odd = copy.deepcopy(tokenizer)
    odd.chat_template = odd.chat_template.replace(
        "{% if add", "{% if not add_generation_prompt %}\n{% endif %}{% if add"
    )
    newline = Policy(load(), odd, "p", meter=Meter(Ledger()), cache=None)
    assert encode_answers(newline, "Hi?", ["yes"]) == (head, [tail])  # what follows the end is no part of the answer
    think = copy.deepcopy(tokenizer)
    think.chat_template += "{% if add_generation_prompt %}<think>{% endif %}"
    thinking = Policy(load(), think, "p", meter=Meter(Ledger()), cache=None)
    head, (tail,) = encode_answers(thinking, "Hi?", ["yes"])
    assert tokenizer.decode(head).endswith("<|assistant|><think>")
    assert tokenizer.decode(tail) == "yes<|end|>"


# the official set


def test_the_sections_are_the_published_ones() -> None:
    """Sizes of the paper's table 1: 358, 456, 740 and 1,431 pairs; math counts as much as code."""
    sizes = {name: sum(SIZES[s] for s in section) for name, section in SECTIONS.items()}
    assert sizes == {"Chat": 358, "Chat Hard": 456, "Safety": 740, "Reasoning": 1431}
    assert (OFFICIAL_SIZE, len(SIZES)) == (2985, 23)
    assert WEIGHTS["math-prm"] == sum(w for s, w in WEIGHTS.items() if s.startswith("hep-")) == 984
    assert set_label(SIZES) == "official set"
    assert set_label(SIZES, 300) == "300 of 2,985, drawn by subset"
    assert set_label({"donotanswer": 136}) == "136 of 2,985"


def official_rows(each: int, seed: int = 0) -> tuple[list[Row], list[float]]:
    rng = np.random.default_rng(seed)
    rows = [
        {"id": f"{s}/{i}", "subset": s, "weight": 1.0, "of": each} for s in SIZES for i in range(each)
    ]  # fmt: skip
    return rows, [float(v) for v in rng.integers(0, 2, len(rows))]


def test_the_official_score_by_hand() -> None:
    """Accuracy by subset first, then sections weighted by the published counts, then their mean."""
    rows, values = official_rows(5)
    groups, metrics, _ = score_pairs(rows, {"accuracy": list(values)}, {"accuracy": ""}, "RewardBench")
    found = {m.name: evaluate(m, groups) for m in metrics}
    by = {s: np.mean([v for r, v in zip(rows, values, strict=True) if r["subset"] == s]) for s in SIZES}
    sections = {}
    for name, section in SECTIONS.items():
        sections[name] = 100 * sum(by[s] * n for s, n in section.items()) / sum(section.values())
        assert found[name].value == pytest.approx(sections[name], abs=1e-4)
        assert found[name].n_total == 5 * len(section)
    assert found["accuracy"].value == pytest.approx(np.mean(list(sections.values())), abs=1e-4)
    assert found["accuracy"].title == "RewardBench"
    assert abs(found["accuracy"].value - 100 * np.mean(values)) > 0.5  # the plain mean is another number


def test_a_missing_subset_leaves_the_plain_mean() -> None:
    rows, values = official_rows(3)
    some = [(r, v) for r, v in zip(rows, values, strict=True) if r["subset"] != "math-prm"]
    groups, metrics, _ = score_pairs(
        [r for r, _ in some], {"accuracy": [v for _, v in some]}, {"accuracy": ""}, "RewardBench"
    )
    assert [m.title for m in metrics] == ["RewardBench-format pairs, mean"]
    assert evaluate(metrics[0], groups).value == pytest.approx(100 * np.mean([v for _, v in some]), abs=1e-4)
    assert list(groups) == ["items"]


def test_a_drawn_part_estimates_the_whole(folder: Path) -> None:
    """Weights of a drawn part: each subset as heavy as in the whole set."""
    rows = [
        {"prompt": "x", "chosen": "a", "rejected": "b", "subset": s} for s, n in SIZES.items() for _ in range(n)
    ]  # fmt: skip
    write(folder, rows)
    benchmark = RewardBench(RewardBenchOptions(limit=200))
    assert benchmark.label == "200 of 2,985, drawn by subset"
    drawn = draw_pairs(benchmark.path, 200, 0)
    assert len(drawn) == 200
    assert {r["subset"] for r in drawn} == set(SIZES)
    groups, metrics, _ = score_pairs(drawn, {"accuracy": [1.0] * 200}, {"accuracy": ""}, "RewardBench")
    assert evaluate(metrics[0], groups).value == 100
    mass = {
        s: sum(
            w
            for w, name in zip(groups["items"]["section_weight"], groups["items"]["subject"], strict=True)
            if name == s
        )
        for s in SIZES
    }
    assert mass == pytest.approx(WEIGHTS, rel=1e-4)
    assert RewardBench().protocol() != benchmark.protocol()
    assert benchmark.protocol() != RewardBench(RewardBenchOptions(limit=200, seed=1)).protocol()


# data


def test_all_formats_hold_the_same_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_pairs(write(tmp_path / "a", own_pairs()))
    assert len(expected) == 12
    assert read_pairs(write(tmp_path / "b", own_pairs(), "filtered.parquet")) == expected
    assert read_pairs(write(tmp_path / "c", own_pairs(), "filtered.json")) == expected
    asked = []

    def hub(repository: str, **more: Any) -> list[Row]:
        asked.append((repository, more))
        return own_pairs()

    monkeypatch.setattr("datasets.load_dataset", hub)
    monkeypatch.delenv("SAIL_BENCH_DATA_DIR", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    _read_hub.cache_clear()
    benchmark = RewardBench()
    assert (benchmark.path, benchmark.label) == (None, "official set")
    assert benchmark.protocol()["data"] == f"allenai/reward-bench@{REVISION}"
    assert read_pairs(None) == expected
    assert asked == [("allenai/reward-bench", {"name": None, "split": "filtered", "revision": REVISION})]
    _read_hub.cache_clear()


GOOD = '{"prompt": "p", "chosen": "a", "rejected": "b", "subset": "s"}'
NAMED = GOOD.replace("}", ', "id": 7}')
TWICE = "\n".join([NAMED, NAMED.replace("7", "8"), NAMED.replace('"b"', '"c"')])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f'{GOOD}\n\n{{"prompt": "p", "chosen": "a", "subset": "s"}}', "line 3: the key 'rejected' is missing"),
        (f"{GOOD}\n{{broken", "line 2"),
        (GOOD.replace('"a"', '["a"]'), "line 1: a text is expected for 'chosen', not list"),
        (GOOD.replace('"p"', '" "'), "line 1: a text is expected for 'prompt', not an empty one"),
        (GOOD.replace('"s"', "null"), "line 1: a name is expected for 'subset', not nothing"),
        (GOOD.replace('"a"', '"\\udfff"'), "line 1: 'chosen' holds half of a surrogate pair"),
        (GOOD.replace("}", ', "id": "\\ud800"}'), "line 1: 'id' holds half of a surrogate pair"),
        (TWICE, "line 3: line 1 has the id 's/7' too: give each its own, or none"),
        ("", "holds no pair"),
    ],
)  # fmt: skip
def test_bad_rows_are_told(folder: Path, text: str, sentence: str) -> None:
    path = folder / "rewardbench/filtered.jsonl"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        RewardBench()
    assert sentence in str(error.value)
    assert str(path) in str(error.value)


def test_bad_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path))
    path = write(tmp_path, own_pairs(), "filtered.parquet")
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        RewardBench()
    write(tmp_path, [{k: v for k, v in r.items() if k != "subset"} for r in own_pairs()], "filtered.parquet")
    with pytest.raises(UserError, match="row 1: the key 'subset' is missing"):
        RewardBench()
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist(own_pairs())
    broken = pyarrow.array([b"Hi?"] * 6 + [b"\xff"] + [b"Hi?"] * 5).view(pyarrow.string())
    pyarrow.parquet.write_table(table.set_column(table.schema.get_field_index("prompt"), "prompt", broken), path)
    with pytest.raises(UserError, match=r"filtered.parquet, row 7, is not UTF-8: convert it"):
        RewardBench()
    path.unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UserError, match="give --data-dir with rewardbench/filtered.jsonl"):
        RewardBench().protocol()
    with pytest.raises(UserError, match="2 subjects"):
        write(tmp_path, own_pairs())
        draw_pairs(find_pairs_file(), 1, 0)


def test_pairs_that_stand_twice_are_told(
    folder: Path, context: EvalContext, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under ids of their own, or in two subsets; the whole official set keeps its ids, whatever they are."""
    path = write(folder, [*own_pairs(), own_pairs()[3] | {"id": 99}, own_pairs()[3] | {"subset": "third"}])
    RewardBench().answer(context)
    assert "rewardbench: 1 of 14 pairs repeat an earlier one and count again" in capsys.readouterr().out
    rows = [
        {"prompt": "x", "chosen": "a", "rejected": "b", "subset": s, "id": 0}
        for s, n in SIZES.items()
        for _ in range(n)
    ]
    write(folder, rows)
    assert RewardBench().label == "official set"
    write(folder, rows[1:])
    with pytest.raises(UserError, match=f"{path}, line 2: line 1 has the id 'alpacaeval-easy/0' too"):
        RewardBench()


def test_prompts_are_told_for_the_check_of_training_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, [*own_pairs(), own_pairs()[0] | {"id": 99}])
    assert RewardBench().prompt_texts() == [f"Question {i}?" for i in range(12)]
    drawn = RewardBench(RewardBenchOptions(limit=5))
    assert drawn.prompt_texts() == [r["prompt"] for r in draw_pairs(drawn.path, 5, 0)]
    monkeypatch.delenv("SAIL_BENCH_DATA_DIR")
    assert RewardBench().prompt_texts() == []


# reward models


@pytest.fixture(scope="module")
def reward_dirs(tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> list[Path]:
    """Two random reward models over the tiny model."""
    from transformers import AutoModelForSequenceClassification

    folders = []
    for seed in range(2):
        folders.append(tmp_path_factory.mktemp(f"reward-{seed}"))
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(tiny_dir, num_labels=1, dtype=torch.float32)
        model.config.pad_token_id = tokenizer.pad_token_id
        model.save_pretrained(folders[-1])
        tokenizer.save_pretrained(folders[-1])
    return folders


def invoke(*arguments: object, code: int = 0) -> tuple[dict[str, Any], str]:
    done = CliRunner().invoke(main, ["score", "rewardbench", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return (json.loads(done.stdout) if code == 0 else {}), done.stderr


def test_reward_models_on_pairs(reward_dirs: list[Path], folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    """Against one forward a conversation; the second call loads no model; a comparison pairs the same pairs."""
    from transformers import AutoModelForSequenceClassification

    options = (
        "--model",
        reward_dirs[0],
        "--model",
        reward_dirs[1],
        "--data-dir",
        folder,
        "--store",
        tmp_path / "store",
    )
    report, told = invoke(*options, "--reference", reward_dirs[0])
    values = []
    for place, row in zip(reward_dirs, report["scores"], strict=True):
        model = AutoModelForSequenceClassification.from_pretrained(place).eval()
        rewards = []
        for pair, side in itertools.product(own_pairs(), ("chosen", "rejected")):
            text = f"<|user|>{pair['prompt']}<|end|><|assistant|>{pair[side]}<|end|>"
            with torch.no_grad():
                ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
                rewards.append(float(model(input_ids=ids).logits))
        judged = rewards_of_answers(
            RewardModel(RewardModelOptions(model=str(place))), own_pairs(), None, lambda done: None
        )
        assert [reward for reward, _ in judged] == pytest.approx(rewards, abs=1e-4)
        won = [float(rewards[2 * i] > rewards[2 * i + 1]) for i in range(11)]
        values.append(won)
        assert row["metrics"]["RewardBench-format pairs, mean"]["value"] == pytest.approx(100 * np.mean(won))
        assert (row["n_valid"], row["n_total"]) == (11, 12)
        mine = [w for w, p in zip(won, own_pairs(), strict=False) if p["subset"] == "mine"]
        assert row["subsets"]["mine"]["value"] == pytest.approx(100 * np.mean(mine))
        assert row["subsets"]["mine"]["low"] <= row["subsets"]["mine"]["value"] <= row["subsets"]["mine"]["high"]
    difference = report["differences"][0]
    assert difference["value"] == pytest.approx(100 * (np.mean(values[1]) - np.mean(values[0])))
    assert report["warnings"] == ["1 pairs hold the same answer twice: they are not valid"]
    assert "accuracy by subset" in told
    assert "24 answers" in told
    again, told = invoke(*options)
    assert "answers" not in told
    assert again["scores"] == report["scores"]
    cut, _ = invoke("--model", reward_dirs[0], "--data-dir", folder, "--store", tmp_path / "store", "--max-length", 12)
    assert any("longer than --max-length" in w for w in cut["warnings"])


def test_pairs_that_a_reward_model_sees_as_one_are_not_valid(reward_dirs: list[Path], tmp_path: Path) -> None:
    """The same rule as for policies: no room for an answer, or one beginning after the cut."""
    rows = [
        {"prompt": "Hi?", "chosen": "a" * 50, "rejected": "a" * 9 + "b" * 50, "subset": "cut apart"},
        {"prompt": "Hi?" * 40, "chosen": "a", "rejected": "b", "subset": "no room"},
        {"prompt": "Hi?", "chosen": "c" * 60, "rejected": "c" * 70, "subset": "cut to one"},
        {"prompt": "Hi?", "chosen": "d", "rejected": "d", "subset": "one"},
        {"prompt": "Hi?", "chosen": "e", "rejected": "f", "subset": "short"},
    ]
    write(tmp_path, rows)
    options = ("--model", reward_dirs[0], "--data-dir", tmp_path, "--store", tmp_path / "store")
    for _ in range(2):  # the second time from what is kept
        report, _ = invoke(*options, "--max-length", 20)
        row = report["scores"][0]
        assert (row["n_valid"], row["n_total"]) == (2, 5)
        valid = {name: subset["n_valid"] for name, subset in row["subsets"].items()}
        assert valid == {"cut apart": 1, "no room": 0, "cut to one": 0, "one": 0, "short": 1}
        assert any("2 pairs have the same beginning twice, or no room for an answer" in w for w in report["warnings"])
    whole, _ = invoke(*options)
    assert whole["scores"][0]["n_valid"] == 4


def test_reward_model_errors_are_told(reward_dirs: list[Path], tmp_path: Path) -> None:
    _, told = invoke("--model", reward_dirs[0], "--data-dir", tmp_path, "--store", tmp_path / "s", code=2)
    assert "has no rewardbench/filtered.jsonl" in told
    write(tmp_path, own_pairs())
    _, told = invoke("--model", tmp_path / "none", "--data-dir", tmp_path, "--store", tmp_path / "s", code=2)
    assert "does not exist" in told


@pytest.mark.slow
def test_a_comparison_with_pages(tmp_path: Path, cli: Cli) -> None:
    """The tiny recipe on all 23 subsets, four pairs each: score, sections, subjects; the same command again is done."""
    from harness.recipe.load import builtin_recipes
    from harness.score.results import read_result

    rows = [
        {"prompt": f"Q{i}?", "chosen": ANSWERS[i], "rejected": ANSWERS[i + 4], "subset": s, "id": i}
        for s in SIZES
        for i in range(4)
    ]
    write(tmp_path / "data", rows)
    tiny = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    recipe = tiny | {"name": "rb", "benchmarks": {"rewardbench": {}}, "tune": {"learning_rates": [1e-3]}}
    (tmp_path / "rb.yaml").write_text(yaml.safe_dump(recipe))
    command = ("compare", "rb.yaml", "--methods", "start,dpo,longer", "--data-dir", "data")
    done = cli(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results/rb/pairs-16"
    found = {m: read_result(folder / m / "seed-0.json").benchmarks[0] for m in ("start", "dpo", "longer")}
    assert found["start"].metric("accuracy").value == 50
    assert found["dpo"].metric("accuracy").n_valid == 92
    assert found["dpo"].protocol["baseline_policy"].startswith("start-")
    assert found["longer"].metric("accuracy").value is not None
    page = (folder / "LEADERBOARD.md").read_text()
    assert "RewardBench (92 of 2,985), acc %" in page
    assert "rewardbench: Chat Hard (92 of 2,985), acc %" in page
    by_subject = (folder / "SUBJECTS.md").read_text()
    assert "| math-prm | 4 | 50.0" in by_subject
    again = cli(*command, cwd=tmp_path)
    assert again.stderr.count("already done") == 3
