"""The trackers: how each opens a run, takes rows and tables, and closes it. Their packages are imported here only."""

from __future__ import annotations

import contextvars
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from harness.errors import UserError
from harness.run.trackers.messages import Table, TrackedRun
from harness.store.json_files import digest

INIT_S = 30.0
"""How long wandb may take to begin a run over the network; less than the end of a comparison waits for it."""


class Writer(Protocol):
    """A run that is open in a tracker."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add numbers at a step; steps grow."""

    def table(self, step: int, name: str, table: Table) -> None:
        """Add a table at a step."""

    def close(self, complete: bool) -> None:
        """Write what is left, and close the run; one that is not ``complete`` has failed, or goes on another time."""


class Tracker(Protocol):
    """Opens runs. ``place`` names where they go: a project, folder or server."""

    place: str

    def open(self, run: TrackedRun, *, again: bool) -> Writer:
        """Open a run.

        Args:
            run: what it is.
            again: whether it was begun before, so that it goes on.
        """

    def end(self) -> None:
        """End what the tracker itself has under way."""


class Trackio:
    """Trackio: a database on this machine, or a server that its own variables name."""

    def __init__(self) -> None:
        import trackio
        from trackio.utils import TRACKIO_DIR

        self._init: Any = trackio.init
        self._table: Any = trackio.Table
        self._project = os.environ.get("TRACKIO_PROJECT", "")
        remote = os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL", "").partition("?")[0]
        self.place = f"{remote or TRACKIO_DIR} {self._project}"

    def open(self, run: TrackedRun, *, again: bool) -> Writer:
        """As in :class:`Tracker`. Trackio has one current run a context; several are open here at once."""
        settings = {"resume": "allow" if again else "never", "embed": False, "auto_log_gpu": False}
        named = {"project": self._project or run.project, "name": run.name, "group": run.group}
        config = {**run.config, "key": run.key}
        opened = contextvars.Context().run(lambda: self._init(**named, config=config, **settings, auto_log_cpu=False))
        return _TrackioRun(opened, self._table)

    def end(self) -> None:
        """Nothing is left once all runs are closed."""


class _TrackioRun:
    def __init__(self, run: Any, table: Any) -> None:
        self._run, self._table = run, table

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def table(self, step: int, name: str, table: Table) -> None:
        self._run.log({name: self._table(columns=list(table.columns), data=[list(r) for r in table.rows])}, step=step)

    def close(self, complete: bool) -> None:
        self._run.finish()


class Wandb:
    """Weights & Biases, online or, with ``WANDB_MODE=offline``, as files of this machine.

    Raises:
        UserError: it is online, and no one has logged in.
    """

    def __init__(self) -> None:
        import wandb

        self._wandb: Any = wandb
        settings = wandb.setup().settings
        self._online = settings.mode not in ("offline", "disabled", "dryrun")
        if self._online and not wandb.login(prompt=False, verify=False):
            raise UserError(
                "wandb has no API key on this machine: run `wandb login`, set WANDB_MODE=offline, or leave wandb out"
            )
        self._project = os.environ.get("WANDB_PROJECT", "")
        where = f"{settings.base_url} {settings.entity or ''}" if self._online else os.environ.get("WANDB_DIR") or "."
        self.place = f"{where if self._online else Path(where).resolve()} {self._project}"

    def open(self, run: TrackedRun, *, again: bool) -> Writer:
        """As in :class:`Tracker`. The run's id follows from its name and key, so that it is the same at a resume."""
        project = self._project or run.project
        quiet = {"console": "off", "silent": True, "x_disable_stats": True, "disable_git": True, "disable_code": True}
        patience = {"init_timeout": INIT_S}
        opened = self._wandb.init(
            project=project,
            name=run.name,
            id=digest([project, run.name, run.key]),
            group=run.group,
            config={**run.config, "key": run.key},
            resume="allow" if self._online else None,
            reinit="create_new",
            settings=self._wandb.Settings(**quiet, **patience),
        )
        opened.define_metric("train/global_step")
        opened.define_metric("train/*", step_metric="train/global_step")
        return _WandbRun(opened, self._wandb.Table)

    def end(self) -> None:
        """End the process in which wandb sends what it is given."""
        self._wandb.teardown()


class _WandbRun:
    def __init__(self, run: Any, table: Any) -> None:
        self._run, self._table = run, table

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def table(self, step: int, name: str, table: Table) -> None:
        rows = [list(row) for row in table.rows]
        self._run.log({name: self._table(list(table.columns), rows, allow_mixed_types=True)}, step=step)

    def close(self, complete: bool) -> None:
        self._run.finish(exit_code=0 if complete else 1)


class TensorBoard:
    """TensorBoard's event files, one folder a run, below ``runs`` or ``TENSORBOARD_LOGGING_DIR``."""

    def __init__(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter
        self._folder = Path(os.environ.get("TENSORBOARD_LOGGING_DIR") or "runs").expanduser().resolve()
        self.place = str(self._folder)

    def open(self, run: TrackedRun, *, again: bool) -> Writer:
        """As in :class:`Tracker`. What is shown of an earlier run of the same name ends where another begins."""
        opened = self._writer(log_dir=str(self._folder / run.name), purge_step=None if again else 0)
        return _TensorBoardRun(opened, {**run.config, "key": run.key}, again)

    def end(self) -> None:
        """Nothing is left once all runs are closed."""


class _TensorBoardRun:
    def __init__(self, writer: Any, config: Mapping[str, Any], again: bool) -> None:
        self._writer = writer
        if not again:
            self._writer.add_text("config", _markdown(Table(("setting", "value"), list(config.items()))))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def table(self, step: int, name: str, table: Table) -> None:
        self._writer.add_text(name, _markdown(table), step)
        self._writer.flush()

    def close(self, complete: bool) -> None:
        self._writer.close()


def _markdown(table: Table) -> str:
    """The table in Markdown, which TensorBoard shows."""
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


KINDS: dict[str, type[Trackio] | type[Wandb] | type[TensorBoard]] = {
    "trackio": Trackio,
    "wandb": Wandb,
    "tensorboard": TensorBoard,
}


def check_installed(names: list[str]) -> None:
    """Refuse a tracker whose package is not there; nothing is imported.

    Raises:
        UserError: names it and the command that installs it.
    """
    for name in names:
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # the folder that wandb writes here is no package
            raise UserError(f"report_to: {name} is not installed here: python -m pip install {name}, or leave it out")
