"""Check the GPU path of SAIL-bench: a source tree, no network, about 9 minutes on one H200.

    python tests/gpu/gpu_check.py [--small] [--out FOLDER] [--only PART ...]

It wants torch >= 2.11, transformers >= 5.17 and the wheels that docs/gpu.md lists. Each part has a process and a time
limit of its own; one that fails is reported, and the others go on. On a GPU the table goes to ``results/bench``.
``--small`` tries the script on a CPU: its figures mean nothing, and it writes to a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import copyfile
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from gpu import model_parts, training_parts  # noqa: E402
from gpu.figures import Figure, Outcome, Setting, Skipped, read_figures, table, write_figures  # noqa: E402
from gpu.sources import provide_entry_points  # noqa: E402

WHOLE = 600
"""Seconds for all parts."""


class Part(NamedTuple):
    """A part of the check, and the seconds after which it is ended."""

    run: Callable[[Setting], list[Figure]]
    limit: float


PARTS = {
    "devices": Part(model_parts.compare_devices, 60),
    "precision": Part(training_parts.compare_precisions, 60),
    "resume": Part(training_parts.kill_and_resume, 200),
    "full training": Part(training_parts.measure_full, 120),
    "adapter training": Part(training_parts.measure_adapter, 90),
    "8B shape": Part(model_parts.measure_8b, 90),
    "methods": Part(training_parts.train_every_method, 200),
    "vLLM": Part(model_parts.measure_vllm, 150),
}

SKIPPED = 77
"""Exit code of a part's process that has nothing to measure."""


def main() -> int:
    """Run the parts and write the table; the exit code is 1 if one failed or missed its goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="sizes for a CPU, to try the script")
    parser.add_argument("--out", type=Path, help="folder of the table (default: results/bench, or a temporary folder)")
    parser.add_argument("--only", nargs="+", choices=[*PARTS], metavar="PART", help="these, the others keep their rows")
    parser.add_argument("--logs", type=Path, help="a folder that gets what each part printed")
    parser.add_argument("--part", choices=[*PARTS], help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        return run_part(options.part, Setting(options.work, options.small))
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as work:
        provide_entry_points(Path(work))
        machine = describe_machine()
        if not (options.small or options.out or "GPU" in machine):
            print("There is no GPU here: try the script with --small, or name a folder with --out", file=sys.stderr)
            return 2
        outcomes = run_parts(options.only or [*PARTS], Path(work), options.small)
        if options.logs:
            options.logs.mkdir(parents=True, exist_ok=True)
            for log in Path(work).glob("*/log.txt"):
                copyfile(log, options.logs / f"{log.parent.name}.txt")
    out = options.out or (ROOT / "results/bench" if not options.small else Path(tempfile.mkdtemp(prefix="gpu-check-")))
    out.mkdir(parents=True, exist_ok=True)
    name = "gpu-check-" + re.sub(r"[^a-z0-9]+", "-", str(machine.get("GPU", "cpu")).lower()).strip("-")
    outcomes = with_earlier(out / f"{name}.json", machine, outcomes)
    text = table(machine, outcomes)
    record = {"machine": machine, "parts": [outcome.dump() for outcome in outcomes]}
    (out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    print(text, flush=True)
    print(f"Written to {out}", flush=True)
    return int(any(outcome.status not in ("ok", "skipped") or outcome.missed for outcome in outcomes))


def with_earlier(file: Path, machine: Mapping[str, Any], outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes, and those of other parts that the same machine and libraries had before, in order.

    Args:
        file: of the earlier record, if there is one.
        machine: of these outcomes.
        outcomes: of the parts that ran.
    """
    record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    earlier = record["parts"] if record.get("machine") == machine else []
    by_part = {value["part"]: Outcome.load(value) for value in earlier} | {each.part: each for each in outcomes}
    return [by_part[name] for name in PARTS if name in by_part]


def describe_machine() -> dict[str, Any]:
    """What the figures belong to."""
    from harness.store.environment import environment

    found = environment()
    gpu = found.get("gpu", {})
    named = {"GPU": gpu["name"], "memory": gpu["memory.total"], "driver": gpu["driver_version"]} if gpu else {}
    libraries = ", ".join(f"{name} {version}" for name, version in found["libraries"].items())
    return named | {"CPU cores": found["cores"], "Python": found["python"], "libraries": libraries}


def run_parts(names: Sequence[str], work: Path, small: bool) -> list[Outcome]:
    """Run each part in a process of its own, within its time and the whole's.

    Args:
        names: of the parts.
        work: gets a folder for each.
        small: sizes for a CPU.
    """
    outcomes, end = [], time.monotonic() + (WHOLE if not small else 10 * WHOLE)
    for name in names:
        folder = work / name.replace(" ", "-")
        folder.mkdir()
        limit = min(PARTS[name].limit if not small else 10 * PARTS[name].limit, end - time.monotonic())
        outcomes.append(_run_process(name, folder, small, limit))
        print(json.dumps(outcomes[-1].dump()), flush=True)
    return outcomes


def _run_process(name: str, folder: Path, small: bool, limit: float) -> Outcome:
    """The outcome of a part.

    Args:
        name: of the part.
        folder: that it works in.
        small: sizes for a CPU.
        limit: seconds after which it is ended.
    """
    command = [sys.executable, str(Path(__file__).resolve()), "--part", name, "--work", str(folder)]
    command += ["--small"] if small else []
    began, log = time.monotonic(), folder / "log.txt"
    if limit <= 0:
        return Outcome(name, "out of time", 0, reason="the time for all parts was over")
    with log.open("w", encoding="utf-8") as handle:
        process = subprocess.Popen(command, stdout=handle, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end_session(process)
    seconds = time.monotonic() - began
    last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""])[-1][:300]
    if code == 0:
        return Outcome(name, "ok", seconds, read_figures(folder / "figures.json"))
    if code == SKIPPED:
        return Outcome(name, "skipped", seconds, reason=last)
    if code is None:
        return Outcome(name, "out of time", seconds, reason=f"over {limit:.0f} s")
    return Outcome(name, "failed", seconds, reason=last)


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """End a part's process with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_part(name: str, setting: Setting) -> int:
    """The body of a part's process."""
    os.chdir(setting.folder)
    try:
        figures = PARTS[name].run(setting)
    except Skipped as reason:
        print(reason)
        return SKIPPED
    except Exception as error:  # noqa: BLE001 - whatever a part raises belongs in its row
        traceback.print_exc()
        print(f"{type(error).__name__}: {error}".splitlines()[0])
        return 1
    write_figures(setting.folder / "figures.json", figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
