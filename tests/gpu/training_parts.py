"""Parts of the GPU check that train: every method in bfloat16, precision, kill and resume, utilisation."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from gpu.figures import Figure, Setting
from gpu.sources import (
    SIZE_1B,
    SIZE_SMALL,
    command_line,
    fresh,
    peak_gib,
    save_random_llama,
    synchronize,
    write_recipe,
)

ADAPTER = {"batch_size": 4, "lora": {"r": 4, "alpha": 8, "layers": 0}, "checkpoints": 2}
ONE_RATE = {"learning_rates": [1e-3]}


def train_every_method(setting: Setting) -> list[Figure]:
    """All methods that train, in bfloat16 with an adapter, in processes of the fork server."""
    from harness.run.plugins import plugins

    names = ["dpo", "sail-pr"]
    if not setting.small:
        loaded = {name: plugin.load() for name, plugin in plugins("methods").items()}
        names = sorted(name for name, method in loaded.items() if method.trains)
    file = write_recipe(setting.folder, "methods", precision="bf16", train=ADAPTER, tune=ONE_RATE)
    results = setting.folder / "results"
    command = command_line("compare", file, "--methods", ",".join(names), "--results", results, "--store", "store")
    done = subprocess.run(command, cwd=setting.folder, capture_output=True, text=True, check=False)
    states = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in results.glob("methods/*/*/seed-0.json")
    }
    failed = [name for name in names if states.get(name, {}).get("status") != "ok"]
    reasons = "; ".join(f"{name}: {states.get(name, {}).get('error', 'no result')}" for name in failed)
    if done.returncode not in (0, 1):
        reasons = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
    trained = f"{len(names) - len(failed)} of {len(names)}" + (f" ({reasons})" if reasons else "")
    return [Figure("methods trained in bf16", trained, "", "all", not reasons)]


def compare_precisions(setting: Setting) -> list[Figure]:
    """Share of weights that full fine-tuning at 1e-6 changes, with float32 master weights and in float32."""
    figures = []
    for precision in ("float32", "bf16-mixed"):
        train = {"batch_size": 4, "lora": None}
        name = f"precision-{precision}"
        file = write_recipe(setting.folder, name, precision=precision, train=train, tune={"learning_rates": [1e-6]})
        for method in ("simpo",) if precision == "float32" else ("simpo", "dpo", "sail-pr"):
            share = _changed_share(file, method, setting.folder / "store")
            figures.append(Figure(f"weights changed, {precision}, {method}", share, "%", "over 99%", share > 99))
    return figures


def _changed_share(file: Path, method: str, store: Path) -> float:
    """Percent of the weights that a training changed."""
    from safetensors.torch import load_file

    from harness.recipe.load import load_recipe
    from harness.run.plan import make_run
    from harness.run.run import Run
    from harness.store.stages import Store

    recipe = load_recipe(str(file))
    run = Run(make_run(recipe, recipe.budget, method, 0, [], Store(store)), lambda kind, value: None)
    run.pairs()
    folder = run.train(run.plan.trials[0].train)
    before, after = (load_file(path / "model.safetensors") for path in (run.resources.start_dir, folder / "policy"))
    changed = sum(int((before[name].to(weight.dtype) != weight).sum()) for name, weight in after.items())
    return 100 * changed / sum(weight.numel() for weight in after.values())


def kill_and_resume(setting: Setting) -> list[Figure]:
    """kill -9 in training; the same command again; weights and ledger against an undisturbed run."""
    from safetensors.torch import load_file

    pairs = 160 if setting.small else 320
    budget: dict[str, Any] = {"budgets": {"long": {"axis": "pairs", "limit": pairs}}, "budget": "long"}
    file = write_recipe(setting.folder, "kill", **budget, tune=ONE_RATE, train=ADAPTER | {"checkpoints": 10})

    def compare(name: str) -> list[str]:
        arguments = ("--methods", "sail-pr", "--results", f"results-{name}", "--store", f"store-{name}")
        return command_line("compare", file, *arguments)

    folder = setting.folder
    checkpoints = folder / "store-killed/work"
    process = subprocess.Popen(
        compare("killed"),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not list(checkpoints.glob("train-*/checkpoints/checkpoint-*/ledger.json")):
        time.sleep(0.05)
    if process.poll() is not None:
        raise RuntimeError("the run ended before it could be killed")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1)  # its run process notices
    killed = max(int(path.name.split("-")[1]) for path in checkpoints.glob("train-*/checkpoints/checkpoint-*"))
    for name in ("killed", "whole"):
        subprocess.run(compare(name), cwd=folder, capture_output=True, check=True)
    stages = [next((folder / f"store-{name}/stages").glob("train-*")) for name in ("killed", "whole")]
    one, two = (load_file(stage / "policy/adapter_model.safetensors") for stage in stages)
    largest = max(float((one[name].float() - two[name].float()).abs().max()) for name in one)
    ledgers = [json.loads((stage / "manifest.json").read_text())["ledger"]["phases"]["train"] for stage in stages]
    on_gpu = setting.device == "cuda"  # where sums may be taken in another order
    goal, bound = ("below 0.001", 1e-3) if on_gpu else ("0", 0.0)
    equal = all(ledgers[0][key] == ledgers[1][key] for key in ("steps", "pairs", "tokens"))
    return [
        Figure("killed at step", float(killed), f"of {pairs // 4}"),
        Figure("largest difference of a weight after resume", largest, "", goal, largest <= bound),
        Figure("steps, pairs and tokens of both", "equal" if equal else "differ", "", "equal", equal),
    ]


def measure_full(setting: Setting) -> list[Figure]:
    """Utilisation of full fine-tuning with float32 master weights."""
    return _utilisation(setting, {"precision": "bf16-mixed"}, None, "full")


def measure_adapter(setting: Setting) -> list[Figure]:
    """Utilisation of training an adapter on a bfloat16 base."""
    return _utilisation(setting, {"precision": "bf16"}, {"r": 16, "alpha": 32, "layers": 0}, "LoRA")


def _utilisation(setting: Setting, precision: dict[str, Any], lora: dict[str, int] | None, name: str) -> list[Figure]:
    """Model FLOPs a second of DPO on a model of 1.2 billion weights, by the project's own trainer and ledger."""
    from harness.recipe.load import load_recipe
    from harness.run.plan import make_run
    from harness.run.run import Run
    from harness.store.stages import Store

    steps, batch, letters = (3, 2, 24) if setting.small else (10, 8, 500)
    size = SIZE_SMALL if setting.small else SIZE_1B
    model = save_random_llama(setting.folder / "model", setting.device, **size)
    _write_pairs(setting.folder, steps * batch + 2, letters)
    data = {"task": "preferences", "train": "train.jsonl", "test": "test.jsonl", "tune_prompts": 1, "eval_prompts": 1}
    train = {"batch_size": batch, "lora": lora, "max_length": 2048, "checkpoints": 1, "gradient_checkpointing": False}
    budget = {"budgets": {"few": {"axis": "steps", "limit": steps}}, "budget": "few"}
    changes = {"model": str(model), "data": data, "train": train, "tune": {"learning_rates": [1e-6]}, "oracle": "none"}
    file = write_recipe(setting.folder, "speed", benchmarks={"mmlu": {}}, **precision, **budget, **changes)
    recipe = load_recipe(str(file))
    marks: list[tuple[float, float, float]] = []

    def progress(kind: str, value: Any) -> None:
        if kind == "at":
            synchronize()
            run.resources.meter.flush()
            spent = run.resources.ledger.entries["train"]
            marks.append((time.perf_counter(), spent["forward_flops"] + spent["backward_flops"], spent["tokens"]))

    plan = make_run(recipe, recipe.budget, "dpo", 0, [], Store(setting.folder / "store"))
    Run(plan, lambda kind, value: None).pairs()  # its models go with it
    gc.collect()
    fresh()
    run = Run(plan, progress)
    run.train(plan.trials[0].train)
    (began, flops_before, tokens_before), (ended, flops, tokens) = marks[1], marks[-1]
    seconds = ended - began
    figures = [Figure(f"{name}: tokens trained", (tokens - tokens_before) / seconds, "a second")]
    share = _share_of_peak((flops - flops_before) / seconds)
    if share is not None:
        goal = "at least 40% of bf16 peak"
        figures.append(Figure(f"{name}: utilisation (MFU)", 100 * share, "%", goal, share >= 0.4))
    peak = peak_gib()
    return figures if peak is None else [*figures, Figure(f"{name}: peak memory", peak, "GiB")]


def _share_of_peak(rate: float) -> float | None:
    """Operations a second as a share of the device's peak in bfloat16; None if that is not known."""
    from harness.budget.machines import machine_at_hand
    from harness.run.devices import visible_devices
    from harness.store.environment import gpus

    device = machine_at_hand(gpus(), visible_devices(), 1).device
    return rate / device.bf16 if device.gpu and device.bf16 else None


def _write_pairs(folder: Path, number: int, letters: int) -> None:
    """Pairs whose prompts and answers have so many letters each, a token a letter."""
    for name, count in (("train", number), ("test", 4)):
        rows = [
            {key: (f"{name} {i} {key} " * letters)[:letters] for key in ("prompt", "chosen", "rejected")}
            for i in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
