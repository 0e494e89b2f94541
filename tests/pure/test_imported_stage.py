"""Imported pairs are read once: the store keeps what is left of them, and memory does not grow with their number."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.command import tiny_recipe
from kit.rows import write_rows

from harness.budget.ledger import Ledger
from harness.budget.stored_pairs import StoredPairs
from harness.pairs import imported
from harness.pairs.pair_source import PairSource
from harness.recipe.load import load_recipe
from harness.recipe.recipe import PairsSpec, Recipe
from harness.run.housekeeping import Kept, unneeded
from harness.run.job import Job
from harness.run.plan import make_runs
from harness.store.row_files import RowFile, RowView, RowWriter
from harness.store.stages import Store
from harness.store.user_files import LocatedRow


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each source was read, by its name."""
    counts, original = Counter[str](), PairSource.rows

    def counted(source: PairSource) -> Iterator[LocatedRow]:
        counts[source.name] += 1
        return original(source)

    monkeypatch.setattr(PairSource, "rows", counted)
    return counts


def forget() -> None:
    """What this process knows of imported pairs is gone, as in a new process."""
    imported._folders.clear()
    imported._read.cache_clear()
    imported._identity.cache_clear()


def ultrafeedback(number: int, name: str, words: int = 8) -> dict[str, Any]:
    prompt = " ".join(f"{name}-{number}-{word}" for word in range(words))
    sides = {
        side: [{"role": "user", "content": prompt}, {"role": "assistant", "content": f"{text} {number} " * words}]
        for side, text in (("chosen", "yes"), ("rejected", "no"))
    }
    return {"prompt": prompt, "prompt_id": str(number), **sides, "score_chosen": 8.0, "score_rejected": 3.5}


def files(folder: Path, number: int, words: int = 8) -> PairsSpec:
    for name, count in (("train", number), ("test", 12)):
        write_rows(folder / f"{name}.jsonl", (ultrafeedback(i, name, words) for i in range(count)))
    data = PairsSpec(task="preferences", train="train.jsonl", test="test.jsonl", tune_prompts=4, eval_prompts=6)
    data._folder = folder
    return data


def recipe(folder: Path, number: int = 30) -> Recipe:
    files(folder, number)
    changes = {"data": {"task": "preferences", "train": "train.jsonl", "test": "test.jsonl"}, "name": "r"}
    changes["data"] |= {"tune_prompts": 4, "eval_prompts": 6, "heldout_prompts": 4}
    changes |= {"tune": {"learning_rates": [1e-3]}, "benchmarks": {"mmlu": {}}, "methods": ["start", "dpo"]}
    raw = {key: value for key, value in tiny_recipe().items() if key != "oracle"}
    (folder / "r.yaml").write_text(json.dumps(raw | changes, default=str))
    return load_recipe(str(folder / "r.yaml"))


def test_planning_and_run_processes_read_the_files_once(tmp_path: Path, reads: Counter[str]) -> None:
    forget()
    loaded, store = recipe(tmp_path), Store(tmp_path / "store")
    plans = make_runs(loaded, loaded.budget, ["start", "dpo"], 2, ["mmlu"], store)
    overlap = plans[-1].comparison.overlap
    assert overlap["mmlu"]["equal"] == 0 and overlap["mmlu"]["prompts"] == 57
    assert reads == {"train.jsonl": 1, "test.jsonl": 1}
    jobs = [Job.of(plan) for plan in plans]
    for job in jobs:
        forget()
        assert job.plan().comparison.overlap == overlap
    assert reads == {"train.jsonl": 1, "test.jsonl": 1}
    forget()
    again = make_runs(loaded, loaded.budget, ["start", "dpo"], 2, ["mmlu"], store)
    assert [n.key for p in again for n in p.nodes] == [n.key for p in plans for n in p.nodes]
    assert reads == {"train.jsonl": 1, "test.jsonl": 1}
    assert unneeded(store, [loaded], Kept()) == []
    write_rows(tmp_path / "train.jsonl", (ultrafeedback(i, "other") for i in range(30)))
    changed = make_runs(loaded, loaded.budget, ["dpo"], 1, ["mmlu"], store)[0]
    assert reads == {"train.jsonl": 2, "test.jsonl": 2} and changed.comparison.key != plans[-1].comparison.key
    kinds = sorted(path.name.split("-")[0] for path in unneeded(store, [loaded], Kept()))
    assert kinds == ["imported", "overlap"], "those of the file before it changed"


def test_a_store_that_cannot_be_written(tmp_path: Path, reads: Counter[str]) -> None:
    data = files(tmp_path, 20)
    forget()
    kept = imported.imported_pairs(data, Store(tmp_path / "store"))
    forget()
    blocked = tmp_path / "blocked"
    blocked.write_text("a file stands here")
    for _ in range(2):
        cleaned = imported.imported_pairs(data, Store(blocked))
        assert (cleaned.parts, cleaned.counts, cleaned.letters) == (kept.parts, kept.counts, kept.letters)
    assert reads["train.jsonl"] == 2, "once for each of the two processes that this test plays"
    lengths = [[len(row[key]) for key in ("prompt", "chosen", "rejected")] for row in cleaned.parts["train"]]
    assert cleaned.letters == (
        sum(p for p, _, _ in lengths) / 16,
        sum(c + r for _, c, r in lengths) / 32,
        max(p for p, _, _ in lengths),
        max(p + max(c, r) for p, c, r in lengths),
    )


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A row has about 6 kB of text; what stays in memory of each further row is far less."""
    peaks = []
    for number in (100, 500):
        data = files(tmp_path / str(number), number, words=100)
        tracemalloc.start()
        cleaned = imported.imported_pairs(data)
        letters = sum(len(row["chosen"]) for row in cleaned.parts["train"])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert letters > 300_000
    assert (peaks[1] - peaks[0]) / 400 < 600


def test_rows_on_disk_are_a_sequence(tmp_path: Path) -> None:
    rows = [{"id": i, "text": f"a\u2028b {i} é"} for i in range(5)]
    with RowWriter(tmp_path / "a.jsonl") as writer:
        assert [writer.write(row) for row in rows][:2] == [0, len(json.dumps(rows[0], ensure_ascii=False).encode()) + 1]
        assert not (tmp_path / "a.jsonl").exists()
    read = RowFile(tmp_path / "a.jsonl")
    assert read == rows and read[-1] == rows[-1] and read[1:4:2] == rows[1:4:2] and list(reversed(read)) == rows[::-1]
    with pytest.raises(IndexError):
        read[5]
    view = RowView(read, [3, 0], lambda row: {"id": -row["id"]})
    assert view == [{"id": -3}, {"id": 0}] and view[1:] == [{"id": 0}] and view[-1] == {"id": 0}
    with pytest.raises(ZeroDivisionError), RowWriter(tmp_path / "b.jsonl") as writer:
        writer.write({"id": 1 / 0})
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_stored_pairs_are_found_by_their_ids() -> None:
    """Each is charged once, whichever answer is used, cut as training cuts it; equal pairs are the first of them."""
    import torch

    pairs = [{"prompt_ids": [1, i], "chosen_ids": [2, 70_000 + i, 3], "rejected_ids": [4, 5]} for i in (7, 8, 8)]
    stored, ledger = StoredPairs(pairs, {"calls": 2.0}, 4), Ledger()
    ids = torch.tensor([[0, 1, 8, 2, 70_008], [0, 0, 0, 1, 7]])
    mask = torch.tensor([[0, 1, 1, 1, 1], [0, 0, 0, 1, 1]])
    stored.charge(ids, mask, ledger)
    assert ledger.bought == {1} and ledger.entries["data"] == {"calls": 2.0, "pairs": 1}
    stored.charge(torch.tensor([[1, 8, 4, 5], [1, 7, 4, 5]]), None, ledger)
    assert ledger.bought == {0, 1} and ledger.entries["data"] == {"calls": 4.0, "pairs": 2}
