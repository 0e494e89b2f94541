"""Settings of a command beside its recipe: where data, plugins and fetched files come from.

They are read from the environment, flags of the command line override them, and a run process is handed the values of
the command that started it. API keys are no settings: a process reads them from its own environment alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

DATA_DIR = "SAIL_BENCH_DATA_DIR"
HOME = "SAIL_BENCH_HOME"
PLUGINS = "SAIL_BENCH_PLUGINS"
GITHUB = "SAIL_BENCH_GITHUB"
DEVICES = "SAIL_BENCH_DEVICES"
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
_ON = ("1", "true", "yes", "on")


@dataclass(frozen=True)
class Settings:
    """Named settings; the variable of each is in brackets.

    Attributes:
        data_dir: folder of official data and of the recipe's files (``SAIL_BENCH_DATA_DIR``, or ``--data-dir``).
        home: folder of fetched models; ``~/.cache/sail-bench`` if None (``SAIL_BENCH_HOME``).
        plugins: distributions whose plugins are used, separated by commas; all if None (``SAIL_BENCH_PLUGINS``).
        github: root of a mirror of raw.githubusercontent.com (``SAIL_BENCH_GITHUB``).
        offline: whether the Hub is switched off (``HF_HUB_OFFLINE`` or ``HF_DATASETS_OFFLINE``).
        workers: how many runs of the command work side by side (``--workers``).
        curves: whether runs send the rows of their training logs while they train (``--report-to``).
        devices: so many devices are simulated, for tests; none if 0 (``SAIL_BENCH_DEVICES``).
    """

    data_dir: str | None = None
    home: str | None = None
    plugins: str | None = None
    github: str | None = None
    offline: bool = False
    devices: int = 0
    workers: int = 1
    curves: bool = False

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Settings:
        """The settings that an environment gives."""
        return cls(
            data_dir=environment.get(DATA_DIR) or None,
            home=environment.get(HOME) or None,
            plugins=environment.get(PLUGINS),
            github=environment.get(GITHUB) or None,
            devices=int(count) if (count := environment.get(DEVICES, "")).isdecimal() else 0,
            offline=any(environment.get(name, "").lower() in _ON for name in _OFFLINE),
        )

    def dump(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    @classmethod
    def load(cls, value: Mapping[str, Any]) -> Settings:
        """From its JSON form."""
        return cls(**{field.name: value[field.name] for field in fields(cls)})


_given: Settings | None = None


def settings() -> Settings:
    """The settings in force: those given to this process or command, else those of the environment as it is now."""
    return Settings.of(os.environ) if _given is None else _given


@contextmanager
def using(given: Settings) -> Iterator[None]:
    """Put settings in force, until the context ends."""
    global _given
    before, _given = _given, given
    try:
        yield
    finally:
        _given = before
