"""Reward models on RewardBench-format pairs, by the command and against one forward a conversation."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit.command import run_here
from kit.rewardbench import own_pairs, write_pairs

from benchmarks.rewardbench.score_models import rewards_of_answers
from harness.oracles.reward_model import RewardModel, RewardModelOptions


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path))
    write_pairs(tmp_path, own_pairs())
    return tmp_path


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
    done = run_here("score", "rewardbench", *arguments)
    assert done.returncode == code, done.stderr
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
    report, stderr = invoke(*options, "--reference", reward_dirs[0])
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
    assert "accuracy by subset" in stderr
    assert "24 answers" in stderr
    again, stderr = invoke(*options)
    assert "answers" not in stderr
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
    write_pairs(tmp_path, rows)
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


def test_reward_model_errors_are_named(reward_dirs: list[Path], tmp_path: Path) -> None:
    _, stderr = invoke("--model", reward_dirs[0], "--data-dir", tmp_path, "--store", tmp_path / "s", code=2)
    assert "has no rewardbench/filtered.jsonl" in stderr
    write_pairs(tmp_path, own_pairs())
    _, stderr = invoke("--model", tmp_path / "none", "--data-dir", tmp_path, "--store", tmp_path / "s", code=2)
    assert "does not exist" in stderr
