"""Plugins by entry point: methods, oracles and benchmarks. Built-ins register through the same groups.

A plugin that fails to import is listed with its error and never breaks the others. ``SAIL_BENCH_PLUGINS`` (a comma
separated list of distribution names; may be empty) limits third-party plugins to those named.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any

from harness.errors import Problem, UserError, unknown
from harness.store.settings import settings

OURS = "sail-bench"
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
            UserError: its import fails, or two plugins claim its name.
        """
        if self.clash and self.origin != OURS:
            raise UserError(
                f"The {self.kind[:-1]} {self.name!r} is claimed by {self.origin} and {', '.join(self.clash)}: choose "
                f"one with SAIL_BENCH_PLUGINS={self.origin}"
            )
        try:
            return self.entry.load()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise UserError(
                f"The {self.kind[:-1]} {self.name!r} of {self.origin} fails to import ({reason})"
            ) from error

    def ready(self) -> list[Problem]:
        """Why it cannot be used; empty if it imports."""
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
