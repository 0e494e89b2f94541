"""What a run leaves behind that ran out of memory, or whose process does not end."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest
import torch

from harness.recipe.load import load_recipe
from harness.recipe.recipe import Recipe
from harness.report.method_sections import _machine_line
from harness.run import pool, process
from harness.run.devices import Workers
from harness.run.job import Job
from harness.run.out_of_memory import settings_to_lower
from harness.run.plan import make_runs
from harness.run.pool import LocalPool, Ticket
from harness.run.publish import failed_result, path_of, publish_failure
from harness.score.results import read_result, write_result
from harness.store.environment import environment
from harness.store.settings import Settings, using
from harness.store.stages import Store


def job(store: Path) -> Job:
    recipe = load_recipe("tiny")
    with using(Settings(workers=3)):
        return Job.of(make_runs(recipe, recipe.budget, ["start"], 1, ["mmlu"], Store(store))[0])


def reason(store: Path, error: BaseException, device: str | None = None) -> str:
    return process._reason(error, job(store), device)


def test_memory_that_runs_out_names_the_settings_to_lower(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as on_cpu:
        torch.empty(2**60)
    on_gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    wrapped = RuntimeError("a worker of vLLM failed")
    wrapped.__cause__ = MemoryError()
    keys = ("train.batch_size (", "raise train.gradient_accumulation", "generation_batch_size (", "train.max_length (")
    for error in (on_cpu.value, on_gpu, wrapped):
        line = reason(tmp_path, error)
        assert all(key in line for key in keys)
        assert "lower --workers (3), train.batch_size" in line
        assert "\n" not in line
    assert "--workers" not in reason(tmp_path, on_gpu, "0"), "each has a GPU of its own"
    assert reason(tmp_path, ValueError("a size")) == "ValueError: a size"


def test_only_settings_that_can_be_lowered_are_named() -> None:
    recipe = load_recipe("tiny")
    least = recipe.train.model_copy(update={"batch_size": 1, "gradient_checkpointing": False, "lora": None})
    words = settings_to_lower(Recipe.model_copy(recipe, update={"train": least, "generation_batch_size": 1}), 1)
    assert words == (
        f"lower scoring_batch_size ({recipe.scoring_batch_size}), train.max_length ({least.max_length:,}), or "
        "set train.gradient_checkpointing: true, or set train.lora"
    )


def test_a_process_that_does_not_end_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of a library can keep a process that has said its last word."""
    monkeypatch.setattr(pool, "PATIENCE_S", 0.1)
    context = multiprocessing.get_context("spawn")
    hanging = context.Process(target=time.sleep, args=(600,))
    hanging.start()
    receiver, sender = context.Pipe(duplex=False)
    sender.send(("done", None))
    with LocalPool(Workers(("0",), None)) as workers:
        device = workers._free.pop()
        workers._running[0] = pool._Process(Ticket(job(tmp_path), 0), hanging, receiver, device, None)
        assert [h.event.kind for h in workers.events()] == ["done"]
        assert workers.room == 1
    assert hanging.exitcode == -9


def test_pages_state_gpu_workers_and_threads() -> None:
    machine = environment() | {
        "workers": 2,
        "threads": 3,
        "gpu": {"name": "H100", "memory.total": "81559 MiB", "driver_version": "550.1", "count": 8, "cuda": "12.8"},
    }
    line = _machine_line(machine)
    assert "8 x H100 (81559 MiB, driver 550.1, CUDA 12.8), 2 runs side by side, 3 threads each;" in line
    older = {key: value for key, value in machine.items() if key not in ("workers", "threads", "gpu")}
    assert "cores;" in _machine_line(older)
    packed = {"mkl": "float32 products;", "onednn": "float32 products by oneDNN;"}
    for library, words in packed.items():
        assert f"weights packed for {words}" in _machine_line(older | {"packed_weights": library})


@pytest.mark.parametrize(("pending", "shown"), [(["ARC-C"], "no space"), ([], "")])
def test_scores_of_a_run_that_fails_later_stay_with_the_reason(pending: list[str], shown: str, tmp_path: Path) -> None:
    """A result that was finished before stays as it is."""
    recipe = load_recipe("tiny")
    plan = make_runs(recipe, recipe.budget, ["start"], 1, ["mmlu", "arc_challenge"], Store(tmp_path / "store"))[0]
    earlier = failed_result(plan, "").model_copy(update={"status": "ok", "pending": pending})
    write_result(path_of(plan, tmp_path), earlier)
    publish_failure(plan, tmp_path, "no space")
    assert read_result(path_of(plan, tmp_path)) == earlier.model_copy(update={"error": shown})
