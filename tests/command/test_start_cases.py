"""Start policies that went wrong once, by the command: adapters, GPT-2, a date in the template, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit.command import Cli
from kit.training_cases import case_recipe, cases
from peft import PeftModel
from transformers import AutoModelForCausalLM

from harness.store.json_files import read_rows


def compare(cli: Cli, case: str, models: Path, folder: Path, *arguments: str, **changes: Any) -> Any:
    """Run the recipe of a case in a folder; ``changes``: other top-level keys."""
    recipe = case_recipe(cases(*case.split("/")), models, folder)
    recipe.write_text(yaml.safe_dump(yaml.safe_load(recipe.read_text()) | changes))
    return cli("compare", recipe, "--results", "out", "--store", "store", *arguments, cwd=folder)


def stages(folder: Path) -> list[str]:
    """Kinds of the stages that are finished; reading the files, which needs no model, is none that counts here."""
    kinds = sorted(path.name.split("-")[0] for path in (folder / "store" / "stages").glob("*"))
    return [kind for kind in kinds if kind != "imported"]


REFUSALS = {
    "10-pad-outside/m-padout": ("its pad_token is '[PAD]' with the id 260", []),
    "11-reward-model-no-system/rm-gemma": ("refused by the reward model's chat template, no system", ["start"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_before_any_work(case: str, cli: Cli, case_models: Path, tmp_path: Path) -> None:
    sentence, finished = REFUSALS[case]
    done = compare(cli, case, case_models, tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("Error: ") == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert stages(tmp_path) == finished


def test_gpt2_beyond_its_window(cli: Cli, case_models: Path, tmp_path: Path) -> None:
    """One sentence before any work for the benchmark's answers, for those of training, and for too many blocks."""
    case = "13-gpt2-lora/m-gpt2"
    changes: list[tuple[dict[str, Any], str]] = [
        ({"benchmarks": {"alpaca_eval": {"max_new_tokens": 600}}}, "lower benchmarks.alpaca_eval.max_new_tokens"),
        ({"train": {"lora": {"layers": 5}}}, "train.lora.layers is 5, but the model has 2 blocks"),
    ]
    for change, sentence in changes:  # the first run, start, trains nothing
        done = compare(cli, case, case_models, tmp_path, **change)
        assert done.returncode == 2, done.stderr
        assert sentence in done.stderr
        assert stages(tmp_path) == ["start"]


def test_an_adapter_beside_its_base_is_the_start_policy(cli: Cli, case_models: Path, tmp_path: Path) -> None:
    """The reference log-probabilities of the stored pairs are those of base and adapter."""
    import torch

    done = compare(cli, "06-start-with-adapter/m-both", case_models, tmp_path)
    assert done.returncode == 0, done.stderr
    base = AutoModelForCausalLM.from_pretrained(case_models / "base")
    model = PeftModel.from_pretrained(base, case_models / "adapter").eval()
    (file,) = (tmp_path / "store/stages").glob("pairs-*/train.jsonl")
    row = read_rows(file)[0]
    ids = torch.tensor([[*row["prompt_ids"], *row["chosen_ids"]]])
    answer = len(row["chosen_ids"])

    def summed_logp() -> float:
        with torch.no_grad():
            logps = model(ids).logits[0, -answer - 1 : -1].log_softmax(-1)
        return float(logps.gather(-1, ids[0, -answer:, None]).sum())

    expected = summed_logp()
    with model.disable_adapter():
        half = summed_logp()
    assert row["ref_chosen_logps"] == pytest.approx(expected, abs=1e-3)
    assert abs(half - expected) > 1


@pytest.mark.nightly
@pytest.mark.parametrize("case", ["06-start-with-adapter/m-adapter", "13-gpt2-lora/m-gpt2", "13-gpt2-lora/m-gpt2-full"])
def test_what_runs(case: str, cli: Cli, case_models: Path, tmp_path: Path) -> None:
    done = compare(cli, case, case_models, tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"start", "pairs", "train", "tune", "answers"} <= set(stages(tmp_path))


@pytest.mark.nightly
def test_one_date_for_a_comparison(
    cli_process: Cli, case_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two sides of the date line: equal prompts, equal rows; another date is another start policy."""
    case, rows = "20-date-in-template/dated", {}
    for zone in ("Etc/GMT+12", "Pacific/Kiritimati"):
        monkeypatch.setenv("TZ", zone)
        folder = tmp_path / zone.replace("/", "-")
        done = compare(cli_process, case, case_models, folder, "--methods", "start")
        assert done.returncode == 0, done.stderr
        files = sorted((folder / "store/stages").glob("*/*.jsonl"))
        rows[zone] = {f"{file.parent.name}/{file.name}": file.read_text() for file in files}
    done = compare(cli_process, case, case_models, folder, "--methods", "start,dpo")  # resumed
    assert done.returncode == 0, done.stderr
    assert rows["Etc/GMT+12"] == rows["Pacific/Kiritimati"]
    assert len(rows["Etc/GMT+12"]) >= 4
    page = (folder / "out/case/pairs-8/LEADERBOARD.md").read_text()
    assert "Prompts that hold a date hold 2025-01-01 (recipe key `chat_date`)." in page
    result = json.loads((folder / "out/case/pairs-8/dpo/seed-0.json").read_text())
    assert result["start"]["chat_date"] == "2025-01-01"
    other = compare(cli_process, case, case_models, tmp_path / "other", "--methods", "start", chat_date="2026-07-08")
    assert other.returncode == 0, other.stderr
    started = json.loads((tmp_path / "other/out/case/pairs-8/start/seed-0.json").read_text())
    assert started["start"]["chat_date"] == "2026-07-08"
    assert started["start"]["key"] != result["start"]["key"]
    assert started["benchmarks"][0]["protocol"]["chat_date"] == "2026-07-08"
