"""Two oracles in a comparison: one labels the training pairs, another evaluates, and the page says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.command import SMALL, Cli, run_here, write_tiny
from kit.judge_server import Behaviour, Server, more_words_win
from kit.results import details

from harness.recipe.load import load_recipe
from harness.recipe.recipe import OracleSpec
from harness.score.results import read_result
from harness.store.json_files import read_rows

pytestmark = pytest.mark.slow

METHODS = ["start", "sail-pr", "dpo"]


@pytest.fixture
def reward_model(once: Callable[[str, Callable[[Path], object]], Path], finished_tiny: Path) -> Path:
    """A reward model that `train-reward` made from the pairs of `tiny`."""

    def train(folder: Path) -> None:
        store = ["--store", folder / "store"]
        options = ["--out", folder / "model", "--learning-rate", "1e-3"]
        shutil.copytree(finished_tiny / ".sail-bench", folder / "store")
        done = run_here("train-reward", "tiny", *options, *store)
        assert done.returncode == 0, done.stderr
        facts = json.loads((folder / "model" / "reward.json").read_text())
        assert facts["precision"] == load_recipe("tiny").precision
        assert facts["train"]["batch_size"] == load_recipe("tiny").train.batch_size
        accuracy = f"accuracy {facts['heldout_accuracy']:.3f} on {facts['heldout_pairs']} held-out pairs"
        assert accuracy in done.stdout
        again = run_here("train-reward", "tiny", *options, *store)
        assert again.returncode == 2
        assert "is not empty" in again.stderr

    return once("reward", train) / "model"


def test_another_oracle_evaluates_and_the_report_says_so(
    tmp_path: Path, reward_model: Path, cli: Cli, serve: Callable[[Behaviour], Server]
) -> None:
    """train-reward makes a reward model; a comparison trains on its labels and is evaluated by a judge over HTTP."""
    endpoint = serve(more_words_win)
    options = {"model": "judge-1", "base_url": f"http://127.0.0.1:{endpoint.server_port}/v1"}
    write_tiny(
        tmp_path / "judged.yaml",
        **SMALL,
        oracle={"name": "reward_model", "options": {"model": str(reward_model)}},
        eval_oracle={"name": "llm_judge", "options": options},
        methods=METHODS,
    )
    assert load_recipe("tiny").oracle == OracleSpec(name="constraints")
    done = cli("compare", "judged.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "results/local/judged/pairs-16/LEADERBOARD.md").read_text()
    assert "**Oracles**: `reward_model`" in page
    assert "labels the training pairs; `llm_judge`" in page
    assert "reward (mini, v2), win share" in page
    result = read_result(tmp_path / "results/local/judged/pairs-16/sail-pr/seed-0.json")
    assert result.oracles["training"]["oracle"] == "reward_model"
    assert result.oracles["evaluation"]["oracle"] == "llm_judge"
    # both orders of sail-pr's answers against dpo's, by the judge's own rule; start's cell is dpo's, mirrored
    texts = {}
    for folder in (tmp_path / ".sail-bench/stages").glob("answers-*"):
        policy = json.loads((folder / "manifest.json").read_text())["inputs"]["policy"]
        texts[policy] = {r["id"]: r["text"] for r in read_rows(folder / "rows.jsonl") if "text" in r}
    trained = {}
    for folder in (tmp_path / ".sail-bench/stages").glob("train-*"):
        method = json.loads((folder / "manifest.json").read_text())["inputs"]["method"][0]
        trained[method] = texts[folder.name]
    ours, theirs = (trained[m] for m in ("sail-pr", "dpo"))
    lengths = [(len(ours[i].split()), len(theirs[i].split())) for i in ours]
    expected = 100 * sum(0.5 + 0.5 * ((a > b) - (a < b)) for a, b in lengths) / len(lengths)
    preference = result.benchmark("preference")
    assert preference is not None
    assert preference.metric("win_reference").value == pytest.approx(expected)
    assert preference.metric("win_reference").title == "win vs `dpo`"
    part = details(page, "Distance from the start policy").strip().split("\n\n")[0].split("\n")
    titles = [t.strip() for t in part[0].strip("|").split("|")]
    cells = {r.split("|")[1].strip(): [c.strip() for c in r.strip("|").split("|")] for r in part[2:]}
    place = titles.index("win vs `dpo`, win %")
    assert cells["`sail-pr`"][place].startswith(f"{expected:.1f}")
    assert cells["`dpo`"][place] == ""
    won = read_result(tmp_path / "results/local/judged/pairs-16/dpo/seed-0.json").benchmark("preference")
    assert won is not None
    assert cells["`start`"][place].startswith(f"{100 - won.metric('win_rate').value:.1f}")
    calls = len(endpoint.asked)
    assert calls
    again = cli("compare", "judged.yaml", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(endpoint.asked) == calls
    assert "FAILED" not in again.stderr
    assert (tmp_path / "results/local/judged/pairs-16/LEADERBOARD.md").read_text() == page


def test_a_reward_model_labels_and_the_constraints_evaluate(tiny_copy: Path, reward_model: Path, cli: Cli) -> None:
    """The page has both rewards, and the same command again asks for nothing."""
    write_tiny(
        tiny_copy / "two.yaml",
        **SMALL,
        oracle={"name": "reward_model", "options": {"model": str(reward_model)}},
        eval_oracle="constraints",
        methods=METHODS,
    )
    done = cli("compare", "two.yaml", cwd=tiny_copy)
    assert done.returncode == 0, done.stderr
    folder = tiny_copy / "results/local/two/pairs-16"
    page = (folder / "LEADERBOARD.md").read_text()
    assert "training oracle's reward, reward" in page
    assert "over-optimisation" in page
    preference = read_result(folder / "dpo/seed-0.json").benchmarks[0]
    assert preference.metric("gold_reward").unit == "share met"
    assert preference.metric("training_reward").n_valid == 16
    assert preference.protocol["version"] == 2
    again = cli("compare", "two.yaml", cwd=tiny_copy)
    assert again.returncode == 0
    assert again.stderr.count("already done") == 3
