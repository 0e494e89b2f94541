"""Plugins by entry point: methods, oracles and benchmarks. Built-ins register through the same groups.

A plugin that fails to import, or is not what its group holds, is listed with its error and never breaks the others.
``SAIL_BENCH_PLUGINS`` (a comma separated list of distribution names; may be empty) limits third-party plugins to those
named.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any

from harness.errors import Problem, UserError, reason_of, unknown
from harness.run.plugin_check import fault_of
from harness.store.settings import settings

OURS = "sail-bench"
OUR_PACKAGES = ("harness", "benchmarks", "sail")
OF_PLUGIN = "that of a plugin is known once its package is installed"
GROUPS = ("methods", "oracles", "benchmarks")


@dataclass(frozen=True)
class Plugin:
    """A registered name.

    Attributes:
        kind: one of ``GROUPS``.
        origin: the distribution that it comes from, with its ``version``.
        clash: other distributions that claim the same name.
    """

    kind: str
    name: str
    origin: str
    version: str
    entry: EntryPoint
    clash: tuple[str, ...] = ()

    def load(self) -> Any:
        """The class.

        Raises:
            UserError: its import fails, it is no class of its kind, or two plugins claim its name.
        """
        if self.clash and self.origin != OURS:
            raise UserError(
                f"The {self.kind[:-1]} {self.name!r} is claimed by {self.origin} and {', '.join(self.clash)}: choose "
                f"one with SAIL_BENCH_PLUGINS={self.origin}"
            )
        what = f"The {self.kind[:-1]} {self.name!r} of {self.origin}"
        try:
            with redirect_stdout(sys.stderr):  # what a module prints belongs to no listing
                loaded = self.entry.load()
            fault = "" if self.origin == OURS else fault_of(self.kind, self.name, loaded)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise UserError(
                f"{what} fails to import ({reason_of(error)}): correct it, or leave it out with SAIL_BENCH_PLUGINS"
            ) from error
        if fault:
            raise UserError(f"{what} cannot be used: {fault}")
        return loaded

    def ready(self) -> list[Problem]:
        """Why it cannot be used; empty if it can."""
        try:
            self.load()
        except UserError as error:
            return [Problem.of(f"{self.kind[:-1]} {self.name}", error)]
        return []


def plugins(kind: str) -> dict[str, Plugin]:
    """Registered plugins of a kind by name. Our own win a clash of names; ``clash`` names who else claims it."""
    return dict(_registered(kind, settings().plugins, tuple(sys.path)))


@lru_cache(maxsize=16)
def _registered(kind: str, allowed: str | None, path: tuple[str, ...]) -> dict[str, Plugin]:
    """The plugins among what is installed on a path, of the distributions that are allowed."""
    origins = None if allowed is None else {OURS, *(name.strip() for name in allowed.split(","))}
    by_name: dict[str, Plugin] = {}
    for entry in _entries(path)[kind]:
        origin, version = _name_and_version(entry.dist) if entry.dist else ("unknown", "?")
        if origins is not None and origin not in origins:
            continue
        plugin = Plugin(kind, entry.name, origin, version, entry)
        other = by_name.get(entry.name)
        if other is not None and other.origin != origin:
            first, second = (other, plugin) if other.origin == OURS or plugin.origin != OURS else (plugin, other)
            plugin = replace(first, clash=(*first.clash, second.origin))
        by_name[entry.name] = plugin
    return dict(sorted(by_name.items()))


@lru_cache(maxsize=16)
def _entries(path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points of all kinds on a path: what is installed is looked through once."""
    installed = entry_points()
    return {kind: tuple(installed.select(group=f"harness.{kind}")) for kind in GROUPS}


@lru_cache(maxsize=64)
def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    """Of a distribution. Each is read from a file anew; many entry points share one."""
    metadata = distribution.metadata
    return metadata["Name"], metadata["Version"]


def preload_ours() -> None:
    """Import what the built-in plugins are made of."""
    for kind in GROUPS:
        for plugin in plugins(kind).values():
            if plugin.origin == OURS:
                with suppress(UserError):  # whoever uses it gets the error
                    plugin.load()


def load(kind: str, name: str) -> Any:
    """The class registered under a name.

    Raises:
        UserError: no such name (with the nearest), or the plugin does not import.
    """
    registered = plugins(kind)
    if name not in registered:
        raise unknown(kind[:-1], name, registered, OF_PLUGIN)
    return registered[name].load()


def culprit(error: BaseException) -> str:
    """A sentence on the plugin of others in whose code an error arose; empty if it arose in none.

    Args:
        error: that a command met.
    """
    homes = {
        plugin.entry.module.partition(".")[0]: plugin
        for kind in GROUPS
        for plugin in plugins(kind).values()
        if plugin.origin != OURS
    }
    for home in OUR_PACKAGES:
        homes.pop(home, None)
    at, blamed, line = error.__traceback__, None, 0
    while at is not None:
        home = str(at.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if home in homes:
            blamed, line = homes[home], at.tb_lineno
        at = at.tb_next
    if blamed is None:
        return ""
    return (
        f"The {blamed.kind[:-1]} {blamed.name!r} of {blamed.origin} failed in line {line} of its code "
        f"({reason_of(error)}): correct it, or leave it out"
    )
