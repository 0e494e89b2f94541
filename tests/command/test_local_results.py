"""A user's own results have a folder of their own: committed ones stay as they are, and no page mixes the two."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from kit.command import Cli, run_here
from kit.results import run_result

from harness.recipe.load import load_recipe
from harness.run.plan import make_run, train_node
from harness.run.publish import publish_failure
from harness.score.results import LOCAL, RESULTS, result_path, write_result
from harness.store.stages import Store

COMMITTED = ROOT / "results" / "smollm2" / "pairs-64"


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A folder with a committed comparison, and a user's own of the same name with fewer rows."""
    for root, methods in ((RESULTS, ("start", "dpo", "sail-pp", "sail-pr")), (LOCAL, ("start", "dpo", "sail-pp"))):
        for method in methods:
            folder = tmp_path / root / "smollm2" / "pairs-64" / method
            folder.mkdir(parents=True)
            shutil.copy(COMMITTED / method / "seed-0.json", folder)
    return tmp_path


def test_each_folder_keeps_its_own_page(both: Path) -> None:
    done = run_here("leaderboard", cwd=both)
    pages = [root / "smollm2" / "pairs-64" / "LEADERBOARD.md" for root in (RESULTS, LOCAL)]
    assert done.stdout.splitlines() == [f"wrote {page}" for page in pages]
    committed, own = ((both / page).read_text() for page in pages)
    assert committed.count("| `sail-pr` |") and not own.count("| `sail-pr` |")
    before = (both / pages[0]).stat().st_mtime_ns
    assert run_here("leaderboard", "smollm2", "--results", LOCAL, cwd=both).returncode == 0
    assert (both / pages[0]).stat().st_mtime_ns == before


def test_report_takes_the_latest_of_ones_own(both: Path) -> None:
    """Without a name; the committed comparisons are listed where there is no own one."""
    older = both / LOCAL / "smollm2/pairs-64"
    newer = Path(shutil.copytree(older, both / LOCAL / "mine/small"))
    several = run_here("report", LOCAL, "--out", "one.html", cwd=both)
    assert several.returncode == 2
    assert "give one of results/local/mine/small, results/local/smollm2/pairs-64" in several.stderr
    for file in older.rglob("seed-*.json"):
        os.utime(file, (1e9, 1e9))
    written = run_here("report", cwd=both)
    assert written.returncode == 0 and (newer / "report.html").is_file()
    assert [file.parent for file in both.rglob("report.html")] == [newer]
    shutil.rmtree(both / LOCAL)
    none = run_here("report", cwd=both)
    assert none.returncode == 2
    assert "no results in results/local: name a comparison, one of results/smollm2/pairs-64" in none.stderr


def test_commands_that_read_name_the_folder(both: Path) -> None:
    stale = run_here("figures", "--out", "out", "--check", cwd=both)
    assert stale.returncode == 1
    assert all(f"out/{place}smollm2/pairs-64/scores.csv differs" in stale.stderr for place in ("", "local/"))
    rescored = run_here("rescore", cwd=both).stdout
    for root, count in ((RESULTS, 4), (LOCAL, 3)):
        lines = [line for line in rescored.splitlines() if line.startswith(f"{root}/smollm2/")]
        assert len(lines) == count and all(line.endswith("unchanged") for line in lines)
    differences = run_here("diff", RESULTS / "smollm2/pairs-64", LOCAL / "smollm2/pairs-64", cwd=both)
    assert "only in the first: sail-pr" in differences.stdout


def test_a_spread_is_taken_from_one_of_them(both: Path) -> None:
    """From a user's own if there are any: never from both, which would count their prompts twice."""
    arguments = ("power", "smollm2", "--detect", 3, "--seeds", 1, "--benchmarks", "preference", "--json")
    own = json.loads(run_here(*arguments, cwd=both).stdout)
    assert own["spread_from"] == "results/local/smollm2/pairs-64"
    named = json.loads(run_here(*arguments, "--results", "results", cwd=both).stdout)
    assert named["spread_from"] == "results/smollm2/pairs-64"
    assert (own["needs"][0]["rows"], named["needs"][0]["rows"]) == (1, 2)
    shutil.rmtree(both / LOCAL)
    assert json.loads(run_here(*arguments, cwd=both).stdout) == named


def test_what_own_results_were_made_from_is_kept(tmp_path: Path) -> None:
    """By ``store gc --keep``, beside that of committed ones."""
    store = Store(tmp_path / ".sail-bench")
    stages = []
    for root, method in ((RESULTS, "simpo"), (LOCAL, "ipo")):
        plan = make_run(load_recipe("tiny"), "small", method, 0, [], store)
        publish_failure(plan, tmp_path / root, "broken")
        stages.append(train_node(plan, plan.trials[0].point, 0).stage)
        store.get(stages[-1], lambda work: None)
    shown = run_here("store", "gc", "--keep", "tiny", cwd=tmp_path).stdout
    assert not any(f"stages/{stage.key} " in shown for stage in stages)
    shown = run_here("store", "gc", "--keep", "tiny", "--results", LOCAL, cwd=tmp_path).stdout
    assert f"stages/{stages[0].key} " in shown and f"stages/{stages[1].key} " not in shown


def test_results_of_any_depth_stand_apart(tmp_path: Path) -> None:
    """A recipe may be called as a folder of results is."""
    for root in (RESULTS, LOCAL):
        write_result(result_path(tmp_path / root, "local", "b", "dpo", 0), run_result("dpo", []))
    done = run_here("leaderboard", cwd=tmp_path)
    assert done.stdout.splitlines() == [f"wrote results/{place}local/b/LEADERBOARD.md" for place in ("", "local/")]


@pytest.mark.slow
def test_compare_leaves_committed_results_alone(tiny_copy: Path, cli: Cli) -> None:
    """Under whatever settings they were made. It ends with its page and the command that makes the report."""
    own, committed = (tiny_copy / root / "tiny" / "pairs-16" for root in (LOCAL, RESULTS))
    shutil.copytree(own, committed)
    path = committed / "dpo" / "seed-0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"comparison_key": "other"}))
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in committed.rglob("*") if p.is_file()}
    done = cli("compare", "tiny", cwd=tiny_copy)
    assert done.returncode == 0, done.stderr
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in committed.rglob("*") if p.is_file()} == before
    page, command = done.stdout.splitlines()[-2:]
    assert page == "Leaderboard: results/local/tiny/pairs-16/LEADERBOARD.md"
    words = shlex.split(command.split(": ")[1])
    assert words == ["sail-bench", "report", "results/local/tiny/pairs-16"]
    made = cli(*words[1:], cwd=tiny_copy)
    assert made.returncode == 0, made.stderr
    assert (own / "report.html").is_file() and not (committed / "report.html").exists()


@pytest.mark.slow
def test_the_command_that_makes_the_report_fits_every_store(finished_tiny: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(finished_tiny / ".sail-bench", tmp_path / "a store")
    done = cli("compare", "tiny", "--store", "a store", "--results", "my results", "--methods", "start", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    command = done.stdout.splitlines()[-1].split(": ")[1]
    assert command == "sail-bench report 'my results/tiny/pairs-16' --store 'a store'"
