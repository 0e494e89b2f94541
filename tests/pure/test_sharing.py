"""What processes side by side share: devices, claims, an endpoint's requests and caps; and the order of their work."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from kit.judge_server import Handler, completion, endpoint

from harness.run.devices import visible_devices
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
endpoint = Endpoint(model="m", base_url=sys.argv[1], retries=0, **eval(sys.argv[3]))
with using(Settings(workers=2)):
    client = Client(endpoint, RowCache(Path(sys.argv[2])))
    try:
        replies = client.ask([Call((("user", f"question {i}"),)) for i in range(24)])
        print(sum(r.answered for r in replies), client.tally.requests)
    except Exception as error:
        print(error, client.tally.requests)
"""


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        ({"CUDA_VISIBLE_DEVICES": "2,5"}, ["2", "5"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-ab, GPU-cd"}, ["GPU-ab", "GPU-cd"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
    ],
)
def test_a_schedulers_choice_of_devices_is_kept(environment: dict[str, str], devices: list[str]) -> None:
    with using(Settings()):
        assert visible_devices(environment) == devices
    with using(Settings(devices=3)):
        assert len(visible_devices(environment)) == 3


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


def ask_from_two_processes(url: str, cache: Path, settings: dict[str, Any]) -> list[list[str]]:
    """What each of two processes prints that ask the same questions at once."""
    command = [sys.executable, "-c", ASK, url, str(cache), repr(settings)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return [process.communicate()[0].split() for process in both]


def test_two_processes_ask_each_question_once(serve: Any, tmp_path: Path) -> None:
    """And not more at a time than the endpoint's ``concurrency``."""
    counting = Counting()
    server = serve(counting)
    printed = ask_from_two_processes(str(endpoint(server).base_url), tmp_path / "rows.sqlite", {"concurrency": 3})
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
