"""Plugins of others: seen by the meters, held to the budget, kept apart, and listed whatever they do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ROOT
from kit.command import SMALL, Cli, write_tiny
from kit.planted import check_page, check_secret, check_shown
from kit.plugins import install
from kit.results import details

from harness.errors import UserError
from harness.run import plugins as registry
from harness.score.results import RunResult, read_result

BAD = {name: "NaN" if name == "nan" else name.capitalize() for name in (
    "hidden", "borrower", "spender", "stealth", "raiser", "nan", "killed", "hanger")}  # fmt: skip


@pytest.fixture
def bad_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (ROOT / "tests" / "kit" / "plugin_methods.py.txt").read_text()
    entries = {name: f"bad_methods:{cls}" for name, cls in BAD.items()}
    monkeypatch.syspath_prepend(str(install(tmp_path / "site", "bad-methods", entries, bad_methods=source)))


@pytest.mark.slow
def test_what_plugins_spend_and_break_is_reported(bad_plugins: None, tiny_copy: Path, cli: Cli) -> None:
    """One comparison: a method that reports nothing is in the ledger; one that ignores the budget, raises, returns NaN
    weights or is killed has a row that says so; the others finish; exit code 1 with a summary."""
    methods = ["hidden", "borrower", "spender", "stealth", "raiser", "nan", "killed", "dpo"]
    done = cli("compare", write_tiny(tiny_copy / "plugins.yaml", **SMALL, methods=methods), cwd=tiny_copy)
    assert done.returncode == 1, done.stderr

    def result(method: str) -> RunResult:
        return read_result(tiny_copy / f"results/local/plugins/pairs-16/{method}/seed-0.json")

    hidden = result("hidden")
    assert hidden.status == "ok"
    phases = hidden.ledger["phases"]
    assert phases["generate"]["generated"] == 7
    assert phases["oracle"]["calls"] == 3
    assert (phases["train"]["updates"], phases["train"]["rows"]) == (2, 4)
    assert phases["train"]["tokens"] > 0
    assert hidden.method_origin == "bad-methods 1.2"
    assert "data" not in phases, "it used prompts alone"
    borrowed = result("borrower")
    assert borrowed.status == "ok", borrowed.error
    borrower = borrowed.ledger["phases"]
    assert (borrower["data"]["pairs"], borrower["train"]["updates"]) == (1, 1)
    assert borrower["train"]["backward_flops"] > 0
    stealth = result("stealth")
    assert stealth.status == "ok"
    assert "train" not in stealth.ledger["phases"]
    assert stealth.ledger["phases"]["wall"]["seconds"] >= 1
    reasons = {
        "spender": "ignored its budget: it trained on after 16 pairs and was stopped at 17",
        "raiser": "RuntimeError: no idea | what to do",
        "nan": "not finite numbers",
        "killed": "SIGKILL",
    }
    summary = done.stderr.split("Failed runs:")[1]
    for method, words in reasons.items():
        assert result(method).status == "failed"
        assert words in result(method).error
        assert f"{method} seed 0" in summary
        assert "Traceback" not in summary
    assert result("dpo").status == "ok"
    page = (tiny_copy / "results/local/plugins/pairs-16/LEADERBOARD.md").read_text()
    assert "| `dpo` |" in page.split("<details>")[0]
    assert all(f"| `{method}` | **failed**: " in page.split("<details>")[0] for method in reasons)
    assert all(f"| `{method}` | 0 |" in details(page, "Failed runs") for method in reasons)
    assert "bad-methods 1.2" in page
    log = next((tiny_copy / ".sail-bench" / "logs").glob("*raiser*.log")).read_text(encoding="utf-8")
    assert "RuntimeError: no idea" in log
    for text in (log, done.stderr, page, json.dumps(result("raiser").model_dump())):
        check_secret(text)
    check_shown(done.stderr)
    check_page(page)
    assert "\x1b" not in log


@pytest.mark.slow
def test_a_run_that_hangs_is_ended(bad_plugins: None, tiny_copy: Path, cli: Cli) -> None:
    recipe = write_tiny(tiny_copy / "plugins.yaml", **SMALL, methods=["hanger"], time_limit=0.05)
    done = cli("compare", recipe, cwd=tiny_copy)
    assert done.returncode == 1
    assert "hanger seed 0: it worked longer than the recipe's time_limit of 0.05 minutes" in done.stderr
    assert read_result(tiny_copy / "results/local/plugins/pairs-16/hanger/seed-0.json").status == "failed"


def test_a_broken_plugin_is_listed_and_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    entries = {"sad": "sad_module:Sad", "lost": "no_such_module:Lost", "dpo": "sad_module:Thief"}
    install(tmp_path / "site", "sad-methods", entries, sad_module="raise ValueError('half written')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    done = cli("methods", cwd=tmp_path)
    assert done.returncode == 0
    lines = done.stdout.split("\n")
    assert "ValueError: half written" in next(line for line in lines if line.startswith("sad "))
    assert "BROKEN" in next(line for line in lines if line.startswith("lost "))
    mine = next(i for i, line in enumerate(lines) if line.startswith("dpo "))
    assert "BROKEN" not in lines[mine]
    assert "also claimed by sad-methods" in "\n".join(lines[mine : mine + 6])
    refused = cli("compare", "tiny", "--methods", "sad", cwd=tmp_path)
    assert refused.returncode == 2
    assert "The method 'sad' of sad-methods fails to import (ValueError: half written)" in refused.stderr
    monkeypatch.setenv("SAIL_BENCH_PLUGINS", "")
    assert "sad" not in cli("methods", cwd=tmp_path).stdout


def test_two_plugins_with_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither wins by the order of the path: the name is refused until the user chooses."""
    for name in ("one", "two"):
        source = "from harness.methods.dpo import DPO\n\n\nclass Same(DPO):\n    name = 'same'\n"
        install(tmp_path / name, f"{name}-methods", {"same": f"{name}_same:Same"}, **{f"{name}_same": source})
        monkeypatch.syspath_prepend(str(tmp_path / name))
    with pytest.raises(UserError, match=r"'same' is claimed by \S+-methods and \S+-methods: choose one with SAIL"):
        registry.load("methods", "same")
    monkeypatch.setenv("SAIL_BENCH_PLUGINS", "two-methods")
    assert registry.plugins("methods")["same"].origin == "two-methods"
    assert registry.load("methods", "same").__module__ == "two_same"


ODD = {
    "exits": "raise SystemExit(3)",
    "loud": "raise RuntimeError('z' * 2_000_000)",
    "half": "raise RuntimeError('a\\ud800b\\x1b[31mred')",
    "based": "class Base(BaseException): pass\nraise Base('not an Exception')",
    "syntax": "import (",
    "mute": "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
    "plain": "print('noise')\nclass X: pass",
    "five": "X = 5",
    "bare": "from harness.methods.base import Method\nclass X(Method): name = 'bare'",
}
"""Modules of plugins, each broken in its own way."""


def test_whatever_a_plugin_does_when_imported_it_is_listed_in_few_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    """Listings and the doctor go on, JSON stays JSON, and a command that names none of them does not notice."""
    modules = {f"odd_{name}": text for name, text in ODD.items()}
    entries = {f"odd-{name}": f"odd_{name}:X" for name in ODD} | {"odd-absent": "odd_five:Nope"}
    install(tmp_path / "site", "odd-methods", entries, **modules)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    done = cli("methods", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = {entry["name"]: entry for entry in json.loads(done.stdout)}
    broken = {name: entry["error"] for name, entry in listed.items() if "error" in entry}
    assert set(broken) == set(entries)
    assert all(len(error) < 400 and error.isprintable() for error in broken.values())
    assert "SystemExit: 3" in broken["odd-exits"]
    assert "a subclass of harness.methods.base.Method is expected" in broken["odd-five"]
    assert "summary" not in listed["odd-plain"]
    assert cli("doctor", cwd=tmp_path).stdout.count("BROKEN method odd-") == len(entries)
    assert cli("plan", "tiny", "--methods", "start", cwd=tmp_path).returncode == 0
    refused = cli("plan", "tiny", "--methods", "start,odd-exits,odd-loud", cwd=tmp_path)
    assert refused.returncode == 2
    assert [line.startswith("Error: The method 'odd-") for line in refused.stderr.splitlines()] == [True, True]
