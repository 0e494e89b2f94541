"""What processes side by side share: devices, claims, an endpoint's requests and caps; and the order of their work."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from kit.judge_server import Handler, completion, endpoint

from harness.budget.machines import DEVICES
from harness.errors import UserError
from harness.run import devices
from harness.run.devices import visible_devices
from harness.run.fitting import PROCESS, usable_memory
from harness.store import environment
from harness.store.claims import claims_in
from harness.store.settings import Settings, using

ASK = """
import sys
from pathlib import Path
from harness.answer.client import Client
from harness.answer.reply import Call
from harness.recipe.endpoint import Endpoint
from harness.store.row_cache import RowCache
from harness.store.settings import Settings, using
workers = int(sys.argv[4])
endpoint = Endpoint(model="m", base_url=sys.argv[1], retries=0, **eval(sys.argv[3]))
with using(Settings(workers=workers)):
    client = Client(endpoint, RowCache(Path(sys.argv[2])))
    try:
        replies = client.ask([Call((("user", f"question {i}"),)) for i in range(24)])
        print(sum(r.answered for r in replies), client.tally.requests)
    except Exception as error:
        print(error, client.tally.requests)
"""


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"CUDA_VISIBLE_DEVICES": "2,5"}, ["2", "5"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-ab, GPU-cd"}, ["GPU-ab", "GPU-cd"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
        ({"CUDA_VISIBLE_DEVICES": " 1 , 0 "}, ["1", "0"]),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,0"}, ["1"]),  # as CUDA reads it
        ({"CUDA_VISIBLE_DEVICES": "0,0"}, ["0"]),
        ({"CUDA_VISIBLE_DEVICES": "MIG-1a"}, ["MIG-1a"]),
    ],
)
def test_a_schedulers_choice_of_devices_is_kept(variables: dict[str, str], expected: list[str]) -> None:
    with using(Settings()):
        assert visible_devices(variables) == expected
    with using(Settings(devices=3)):
        assert len(visible_devices(variables)) == 3


TWO_GPUS = tuple({"name": name, "memory.total": "1 MiB", "driver_version": "5"} for name in ("H100", "L4"))


def test_a_device_that_is_not_there_is_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker would compute on the CPU."""
    monkeypatch.setattr(devices, "gpus", lambda: TWO_GPUS)
    with using(Settings()):
        assert visible_devices({"CUDA_VISIBLE_DEVICES": "1,7,0"}) == ["1"]
        assert visible_devices({}) == ["0", "1"]


@pytest.mark.parametrize(
    ("axis", "cores", "threads", "most", "expected"),
    [
        ("pairs", 1, None, 9, 1),
        ("pairs", 2, None, 9, 2),
        ("pairs", 16, None, 9, 4),
        ("pairs", 16, None, 3, 3),  # no more fit into memory
        ("pairs", 16, None, 0, 1),  # memory warns, and one is tried
        ("pairs", 16, "8", 9, 2),
        ("pairs", 2, "2", 9, 1),
        ("seconds", 16, None, 9, 1),
    ],
)
def test_runs_side_by_side_on_a_cpu(
    axis: str, cores: int, threads: str | None, most: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One a core, with the threads that are left, unless memory or the user's threads say otherwise."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr(devices, "visible_devices", lambda: [])
    monkeypatch.setattr(devices, "usable_cores", lambda: cores)
    workers = devices.workers_of("auto", axis, lambda count: count <= most)
    assert workers.count == expected
    assert workers.threads == (None if expected == 1 or threads else cores // expected)


def test_a_gpu_that_torch_cannot_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpus", lambda: TWO_GPUS)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    with pytest.raises(UserError, match="cannot use the GPU 1: .* set CUDA_VISIBLE_DEVICES=-1"):
        devices.claim("1", None)
    with pytest.raises(UserError, match="train-reward runs once, and 2 copies"):
        devices.claim_one({"WORLD_SIZE": "2"}, "train-reward")


def test_results_name_the_gpu_of_their_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "gpus", lambda: TWO_GPUS)
    names = {}
    for visible in ("1", "0,1", "GPU-ab", "", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        names[visible] = environment.environment().get("gpu", {}).get("name")
    assert names == {"1": "L4", "0,1": "H100", "GPU-ab": "H100", "": None, "-1": None}


def test_claims_need_no_symbolic_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems have none."""

    def refuse(*args: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    claims = claims_in(tmp_path / "c")
    monkeypatch.setattr(Path, "symlink_to", refuse)
    assert claims.take(5)
    assert [path.is_file() for path in (tmp_path / "c").iterdir()] == [True]
    assert not claims.take(5)
    claims.free(5)
    assert claims.take(5)


def test_a_claim_is_granted_once_and_freed_with_its_process(tmp_path: Path) -> None:
    claims = claims_in(tmp_path / "c")
    assert claims.take(5)
    assert not claims.take(5)
    other = (
        "import sys; from pathlib import Path; from harness.store.claims import claims_in;"
        f"c = claims_in(Path({str(tmp_path / 'c')!r})); print(c.take(5), c.take(6), flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", other], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().split() == ["False", "True"]
    assert not claims.take(6)
    process.kill()
    process.wait()
    assert claims.take(6)
    claims.free(5)
    assert claims.take(5)


class Counting:
    """Answers after a while, and counts requests, at most how many at once, and the questions."""

    def __init__(self) -> None:
        self.lock, self.now, self.most, self.questions = threading.Lock(), 0, 0, list[str]()

    def __call__(self, handler: Handler, request: dict[str, Any], n: int) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.questions.append(request["messages"][0]["content"])
        time.sleep(0.03)
        with self.lock:
            self.now -= 1
        handler.send(completion("yes"))


def ask_from_two_processes(url: str, cache: Path, settings: dict[str, Any], workers: int = 2) -> list[list[str]]:
    """What each of two processes prints that ask the same questions at once."""
    command = [sys.executable, "-c", ASK, url, str(cache), repr(settings), str(workers)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return [process.communicate()[0].split() for process in both]


@pytest.mark.parametrize("workers", [2, 1])
def test_two_processes_ask_each_question_once(workers: int, serve: Any, tmp_path: Path) -> None:
    """And not more at a time than the endpoint's ``concurrency``: two workers, or two commands with one each."""
    counting = Counting()
    server = serve(counting)
    url, settings = str(endpoint(server).base_url), {"concurrency": 3}
    printed = ask_from_two_processes(url, tmp_path / "rows.sqlite", settings, workers)
    assert [answered for answered, _ in printed] == ["24", "24"]
    assert sum(int(requests) for _, requests in printed) == 24 == len(counting.questions)
    assert len(set(counting.questions)) == 24
    assert 2 <= counting.most <= 3


def test_a_cap_holds_for_all_processes(serve: Any, tmp_path: Path) -> None:
    counting = Counting()
    server = serve(counting)
    settings = {"concurrency": 4, "max_requests": 9}
    printed = ask_from_two_processes(str(endpoint(server).base_url), tmp_path / "rows.sqlite", settings)
    assert all("cap of 9 requests" in " ".join(words) for words in printed)
    assert len(counting.questions) == 9


def test_more_workers_than_gpus_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evenly, unless the budget counts seconds; ``auto`` gives each a GPU of its own."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "gpus", lambda: TWO_GPUS)
    with using(Settings()):
        assert devices.workers_of("auto", "pairs").devices == ("0", "1")
        assert devices.workers_of("5", "pairs").devices == ("0", "1", "0", "1", "0")
        with pytest.raises(UserError, match="--workers 5 on 2 GPUs slows"):
            devices.workers_of("5", "seconds")
    alone, three = (usable_memory(DEVICES["h100"], sharing) for sharing in (1, 3))
    assert three == pytest.approx(alone / 3 - PROCESS)
