"""What this machine has, and which features of the project will work on it. Nothing is loaded or fetched."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from harness import __version__
from harness.answer.rollout_engine import ENGINES, engine_class
from harness.answer.smollm2 import smollm2_folder
from harness.benchmark import Benchmark
from harness.budget.machines import cpu
from harness.errors import AbsentError, MissingPackageError, Problem, UserError, install, reason_of
from harness.recipe.trackers import TRACKERS
from harness.run.devices import usable_cores, visible_devices
from harness.run.plugin_check import own_protocol
from harness.run.plugins import GROUPS, OURS, Plugin, plugins
from harness.store.environment import gpus, library_versions
from harness.store.settings import settings, using

EXTRAS = {
    "official": ("alpaca-eval", "fschat", "lm-eval", "openai"),
    "lm-eval": ("lm-eval",),
    "vllm": ("vllm",),
    "report": ("vl-convert-python", "itables"),
    "ray": ("ray",),
    "trackers": ("trackio", "wandb", "tensorboard"),
}
"""Distributions of each extra of the package, those of the core left out."""

KEYS = ("OPENAI_API_KEY", "HF_TOKEN")
"""Variables with keys. Only whether they are set is looked at."""


class Feature(NamedTuple):
    """Something that the project can do.

    Attributes:
        name: of the feature.
        works: whether it will work on this machine.
        why: what it has, or lacks.
        fix: what to do about that; "" if it works, or ``why`` says it.
    """

    name: str
    works: bool
    why: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What this machine has.

    Attributes:
        libraries: versions; cuda: of CUDA that torch is built for, None for none.
        cores: that may be used; memory: bytes; gpus: as the driver lists them; devices: those that runs may use.
        store: folder of the store; free: bytes on its disk.
        data_dir: folder of official data; offline: whether the Hub is switched off.
        keys: whether each variable is set.
        extras: distributions that are missing, by extra.
        plugins: names of installed plugins by kind, with the distribution that each is from.
        broken: plugins that do not import.
        models: of the Hub's cache; datasets: likewise.
        features: what will work, and what will not.
    """

    sail_bench: str
    python: str
    system: str
    libraries: Mapping[str, str]
    cuda: str | None
    cores: int
    memory: float
    gpus: Sequence[Mapping[str, str]]
    devices: Sequence[str]
    store: str
    free: int
    data_dir: str | None
    offline: bool
    keys: Mapping[str, bool]
    extras: Mapping[str, Sequence[str]]
    plugins: Mapping[str, Mapping[str, str]]
    broken: Sequence[Problem]
    models: Sequence[str]
    datasets: Sequence[str]
    features: Sequence[Feature]

    def as_json(self) -> dict[str, Any]:
        """JSON form."""
        lists = {name: [row._asdict() for row in getattr(self, name)] for name in ("broken", "features")}
        return asdict(replace(self, broken=(), features=())) | lists


def diagnose(store: Path) -> Diagnosis:
    """Look at this machine.

    Args:
        store: folder of finished stages, which need not exist yet.
    """
    broken = [problem for kind in GROUPS for plugin in plugins(kind).values() for problem in plugin.ready()]
    missing = {extra: [name for name in names if not _installed(name)] for extra, names in EXTRAS.items()}
    cuda, listed = _cuda(), [{k: v for k, v in gpu.items() if k != "uuid"} for gpu in gpus()]
    keys = {name: bool(os.environ.get(name)) for name in KEYS}
    return Diagnosis(
        sail_bench=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        libraries=dict(library_versions()),
        cuda=cuda,
        cores=usable_cores(),
        memory=cpu(1).memory,
        gpus=listed,
        devices=visible_devices(),
        store=str(store),
        free=shutil.disk_usage(_existing(store)).free,
        data_dir=settings().data_dir,
        offline=settings().offline,
        keys=keys,
        extras=missing,
        plugins={kind: {name: plugin.origin for name, plugin in plugins(kind).items()} for kind in GROUPS},
        broken=broken,
        models=_cached("models"),
        datasets=_cached("datasets"),
        features=[*_features(cuda, missing, keys), *_benchmark_features()],
    )


def _features(cuda: str | None, missing: Mapping[str, Sequence[str]], keys: Mapping[str, bool]) -> Iterator[Feature]:
    """All but benchmarks."""
    if gpus() and cuda is None:
        why = "torch is built for the CPU alone" if find_spec("torch") else "torch is not installed"
        yield Feature("training on the GPU", False, why, "install the build of torch for its driver (docs/gpu.md)")
    else:
        devices = visible_devices()
        yield Feature("training", True, f"on {len(devices)} GPUs" if devices else f"on {usable_cores()} cores, no GPU")
    try:
        smollm2_folder()
        yield Feature("model smollm2", True, "embedded")
    except UserError as error:
        yield Feature("model smollm2", False, str(error))
    for name in ENGINES:
        problems = engine_class(name).ready()
        fix = problems[0].fix if problems else ""
        yield Feature(f"engine {name}", not problems, "it is not installed" if problems else "", fix)
    yield Feature(
        "judge of OpenAI",
        keys["OPENAI_API_KEY"],
        f"OPENAI_API_KEY is {'' if keys['OPENAI_API_KEY'] else 'not '}set",
        "" if keys["OPENAI_API_KEY"] else "set it, or give the judge a base_url of your own",
    )
    yield Feature("judge behind another endpoint", True, "judge: {model: NAME, base_url: URL}")
    offline = settings().offline
    yield Feature(
        "models and data sets of the Hub",
        not offline,
        "HF_HUB_OFFLINE or HF_DATASETS_OFFLINE is set: the cache alone is read" if offline else "fetched when needed",
        "unset them, or use directories and --data-dir" if offline else "",
    )
    yield _of_extra("lm-eval", "benchmarks lm_eval:TASK", missing)
    yield _of_extra("report", "sail-bench report", missing)
    for name in TRACKERS:
        lacking = name in missing["trackers"]
        fix = f"python -m pip install {name}" if lacking else ""
        yield Feature(f"report_to: {name}", not lacking, "it is not installed" if lacking else "", fix)


def _of_extra(extra: str, name: str, missing: Mapping[str, Sequence[str]]) -> Feature:
    lacking = ", ".join(missing[extra])
    return Feature(name, not lacking, f"{lacking} not installed" if lacking else "", install(extra) if lacking else "")


def _benchmark_features() -> Iterator[Feature]:
    """Whether each benchmark's data are here. Nothing is fetched for it."""
    offline = settings().offline
    with using(replace(settings(), offline=True)):
        for name, plugin in plugins("benchmarks").items():
            if feature := _benchmark_feature(name, plugin, offline):
                yield feature


def _benchmark_feature(name: str, plugin: Plugin, offline: bool) -> Feature | None:
    """Whether a benchmark will work; None for a family, and for a plugin that does not import.

    Args:
        name: of the benchmark.
        plugin: that it is.
        offline: whether the Hub is switched off.
    """
    try:
        loaded = plugin.load()
    except UserError:
        return None
    if loaded.member.__func__ is not Benchmark.member.__func__:  # type: ignore[attr-defined]
        return None
    judged = "needs a judge behind an endpoint" if loaded.judged_by == "endpoint" else ""
    try:
        own_protocol(loaded())
    except MissingPackageError as error:
        return Feature(f"benchmark {name}", False, str(error))
    except AbsentError as error:
        if offline:
            return Feature(f"benchmark {name}", False, str(error))
        return Feature(
            f"benchmark {name}", True, "; ".join(filter(None, ["its data are fetched at first use", judged]))
        )
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        return Feature(f"benchmark {name}", False, reason_of(error))
    return Feature(f"benchmark {name}", True, judged)


def others(diagnosis: Diagnosis) -> dict[str, list[str]]:
    """Plugins that are not our own, by distribution."""
    named: dict[str, list[str]] = {}
    for kind, origins in diagnosis.plugins.items():
        for name, origin in origins.items():
            if origin != OURS:
                named.setdefault(origin, []).append(f"{kind[:-1]} {name}")
    return named


def _installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def _cuda() -> str | None:
    """The version of CUDA that torch is built for, read without importing torch; None if there is none."""
    spec = find_spec("torch")
    file = Path(spec.origin).parent / "version.py" if spec is not None and spec.origin else None
    if file is None or not file.is_file():
        return None
    match = re.search(r"^cuda(?:: [^=]+)? = '([^']+)'", file.read_text(encoding="utf-8"), re.M)
    return match.group(1) if match else None


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.resolve()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _cached(kind: str) -> list[str]:
    """Names of models or data sets in the Hub's cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    prefix = f"{kind}--"
    return sorted(p.name.removeprefix(prefix).replace("--", "/") for p in Path(HF_HUB_CACHE).glob(f"{prefix}*"))
