"""Leases: who has one, who takes it over and when, with real processes on simulated hosts."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from kit.hosts import Process, grow_old, stand_here

from harness.store import hosts, leases
from harness.store.leases import leases_in

TAKE = """
from harness.store.leases import leases_in
print(leases_in(folder).take(folder / "x.lease"), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_here(monkeypatch)


def test_a_lease_of_another_host_ends_by_the_clock_of_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, own = tmp_path / "x.lease", leases_in(tmp_path)
    other = Process("there", TAKE, tmp_path)
    assert other.line() == "True"
    other.kill()
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 1e6)
    assert own.held(path) and not own.take(path), "the reader's clock does not count"
    grow_old(tmp_path, "there", leases.STALE_S / 2)
    assert not own.take(path)
    monkeypatch.setattr("time.time", lambda: now - 1e6)
    grow_old(tmp_path, "there", leases.STALE_S)
    assert not own.held(path) and own.take(path) and own.holds(path)
    assert not list(tmp_path.glob("sessions/there-*")), "so that it finds out, should it live after all"
    own.free(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sessions"]


def test_a_process_of_the_same_host_is_seen_to_run_or_not(tmp_path: Path) -> None:
    path, own = tmp_path / "x.lease", leases_in(tmp_path)
    other = Process("here", TAKE, tmp_path)
    assert other.line() == "True"
    os.kill(other.number, signal.SIGSTOP)
    grow_old(tmp_path, "here", 10 * leases.STALE_S)
    assert not own.take(path), "a laptop that slept"
    os.kill(other.number, signal.SIGKILL)
    begun = time.monotonic()
    while not own.take(path):  # before its parent asks for it
        assert time.monotonic() - begun < 10
    other.kill()


def test_a_number_that_another_process_has_now_is_another_process() -> None:
    own = os.getpid()
    assert hosts.runs(own) and hosts.runs(own, hosts.born_at(own))
    assert not hosts.born_at(own) or not hosts.runs(own, f"{hosts.born_at(own)}0")
    assert not hosts.runs(2**22 + 1)


def test_of_many_one_takes_over(tmp_path: Path) -> None:
    """The owners are gone, and processes of three hosts want their leases at once."""
    for number in range(40):
        path = tmp_path / f"{number}.lease"
        path.symlink_to(f"gone-0~1~2~{number:08x}~0")
    code = """
from harness.store.leases import leases_in
own = leases_in(folder)
print("ready", flush=True)
wait_for("go")
print([number for number in range(40) if own.take(folder / f"{number}.lease")], flush=True)
wait_for("end")
"""
    processes = [Process(f"host-{number % 3}", code, tmp_path) for number in range(6)]
    assert [process.line() for process in processes] == ["ready"] * 6
    (tmp_path / "go").touch()
    taken = [number for process in processes for number in eval(process.line())]
    assert sorted(taken) == list(range(40))
    assert sum(path.is_symlink() for path in tmp_path.iterdir()) == 40, "no right to follow is left"
    (tmp_path / "end").touch()
    for process in processes:
        process.lines()


def test_who_died_while_it_took_over_is_followed(tmp_path: Path) -> None:
    path, own = tmp_path / "x.lease", leases_in(tmp_path)
    path.symlink_to("gone-0~1~2~aa~0")
    seen = []
    replace = Path.replace

    def note(self: Path, target: Path) -> Path:
        seen.append(self)
        return replace(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", note)
        assert own.take(path)
    own.free(path)
    path.symlink_to("gone-0~1~2~aa~0")
    seen[0].symlink_to("gone-1~1~2~bb~0")
    assert own.take(path) and own.holds(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sessions", "x.lease"]
