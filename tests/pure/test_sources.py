"""Official files from the Hub and GitHub: the real clients against a local server that speaks what they ask."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import golden

from benchmarks.mt_bench.official_single import OfficialMTBench
from benchmarks.shared.official_files import packaged_file
from benchmarks.shared.published import PUBLISHED
from harness.store.settings import Settings, using

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEXT = b"a small file\n"
SHA = hashlib.sha256(TEXT).hexdigest()


class Site(ThreadingHTTPServer):
    """``files``: bytes by address; ``requests``: (method, address) of every request."""

    files: dict[str, bytes]
    requests: list[tuple[str, str]]
    daemon_threads = True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.requests.append((self.command, self.path))
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 200)
        content = content or b""
        commit = re.search(r"/([0-9a-f]{40})/", self.path)
        if commit:
            self.send_header("X-Repo-Commit", commit[1])
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *args: Any) -> None:
        return


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site(("127.0.0.1", 0), _Handler)
    server.files, server.requests = {}, []
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()


def environment(site: Site, home: Path, **more: str) -> dict[str, str]:
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "SAIL_BENCH_"))}
    return keep | {
        "HF_HOME": str(home),
        "HF_ENDPOINT": site.address,
        "SAIL_BENCH_GITHUB": site.address,
        "HF_HUB_DISABLE_XET": "1",
        **more,
    }


DOWNLOAD = """
import json, sys, time
from harness.errors import UserError
from benchmarks.shared.download import PublishedFile, UnavailableError, download
time.sleep = lambda seconds: None  # between the Hub client's attempts
for line in sys.stdin:
    try:
        answer = {"text": download(PublishedFile(*json.loads(line))).read_text()}
    except UnavailableError as reason:
        answer = {"reason": str(reason)}
    except UserError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
"""


@contextmanager
def downloads(site: Site, home: Path, **more: str) -> Iterator[Callable[[list[str]], dict[str, str]]]:
    """Downloads in a process of their own: the clients read their environment when they are imported."""
    with subprocess.Popen(
        [sys.executable, "-c", DOWNLOAD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(site, home, **more),
    ) as process:
        assert process.stdin is not None and process.stdout is not None

        def download(file: list[str]) -> dict[str, str]:
            process.stdin.write(json.dumps(file) + "\n")
            process.stdin.flush()
            answer: dict[str, str] = json.loads(process.stdout.readline())
            return answer

        yield download
        process.stdin.close()


ADDRESSES = {
    "dataset": f"/datasets/org/set/resolve/{COMMIT}/a/file.txt",
    "space": f"/spaces/org/set/resolve/{COMMIT}/a/file.txt",
    "github": f"/org/set/{COMMIT}/a/file.txt",
}
FILES = [[home, "org/set", "a/file.txt", COMMIT, SHA] for home in ADDRESSES]


@pytest.mark.slow
def test_a_file_is_fetched_once_at_its_commit(site: Site, tmp_path: Path) -> None:
    """From a data set and a space of the Hub and from GitHub."""
    site.files |= dict.fromkeys(ADDRESSES.values(), TEXT)
    with downloads(site, tmp_path, HF_HUB_OFFLINE="1") as download:
        for file in FILES:
            assert download(file) == {
                "reason": "the Hub is switched off or does not answer, and the file is not in its cache"
            }
    assert not site.requests
    with downloads(site, tmp_path) as download:
        for file, address in zip(FILES, ADDRESSES.values(), strict=True):
            assert download(file) == {"text": TEXT.decode()}
            paths = {path for _, path in site.requests} - {"/"}  # which tells whether the Hub answers
            assert paths == {address}  # the commit, and nothing else, is asked for
            site.requests.clear()
            assert download(file) == {"text": TEXT.decode()}
            assert not site.requests
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        with downloads(site, tmp_path, **more) as download:
            assert [download(file) for file in FILES] == [{"text": TEXT.decode()}] * 3
    assert not site.requests


@pytest.mark.slow
def test_other_bytes_are_refused_and_not_kept(site: Site, tmp_path: Path) -> None:
    with downloads(site, tmp_path) as download:
        for file, address in zip(FILES, ADDRESSES.values(), strict=True):
            site.files[address] = b"something else"
            error = download(file)["error"]
            assert f"a/file.txt of org/set@{COMMIT[:12]}" in error
            assert hashlib.sha256(b"something else").hexdigest() in error
            assert SHA in error
            site.files[address] = TEXT
            assert download(file) == {"text": TEXT.decode()}


@pytest.mark.slow
def test_a_file_that_is_not_there_and_a_site_that_is_away(site: Site, tmp_path: Path) -> None:
    with downloads(site, tmp_path) as download:
        assert [download(file) for file in FILES] == [{"reason": "the download failed (status 404)"}] * 3
        site.shutdown()
        site.server_close()
        for file in FILES:
            assert "the download failed" in download(file)["reason"]


PLAN = "from harness.cli import main; main()"


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_asked_once(site: Site, tmp_path: Path) -> None:
    """Its client would wait half a minute for each of the files of this recipe."""
    site.shutdown()
    site.server_close()
    command = [sys.executable, "-c", PLAN, "plan", "llama3-8b-ultrafeedback", "--store", str(tmp_path)]
    begun = time.monotonic()
    done = subprocess.run(command, env=environment(site, tmp_path), capture_output=True, text=True, timeout=100)
    assert "cannot be read from the Hub (it is switched off or does not answer)" in done.stdout + done.stderr
    assert "Retrying" not in done.stdout + done.stderr
    assert time.monotonic() - begun < 30


@pytest.mark.slow
def test_the_protocol_is_the_same_from_a_folder_and_from_the_repository(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published files, whose hashes the table holds; one of them stays in the folder and is not asked for."""
    names = ("question.jsonl", "reference_answer_gpt-4.jsonl", "judge_prompts.jsonl")
    folder = tmp_path / "data/mt_bench"
    folder.mkdir(parents=True)
    for name in names:
        file = PUBLISHED[f"mt_bench/{name}"]
        content = golden("mt_bench", name).read_bytes()
        site.files[f"/{file.repository}/{file.revision}/{file.path}"] = content
        (folder / name).write_bytes(content)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    protocols = []
    for data in (folder.parent, None, folder.parent):
        with using(Settings(data_dir=data and str(data), github=site.address)):
            protocols.append(OfficialMTBench().protocol())
        assert len(site.requests) == (0 if len(protocols) == 1 else 3)
        (folder / names[1]).unlink(missing_ok=True)
    assert protocols[0] == protocols[1] == protocols[2]


def test_hashes_in_the_table_are_those_of_published_files() -> None:
    places = {
        "mt_bench/question.jsonl": ("mt_bench", "question.jsonl"),
        "mt_bench/reference_answer_gpt-4.jsonl": ("mt_bench", "reference_answer_gpt-4.jsonl"),
        "mt_bench/judge_prompts.jsonl": ("mt_bench", "judge_prompts.jsonl"),
        "alpaca_eval/alpaca_eval_clf.txt": ("alpaca_eval", "judge_prompt_alpaca_eval_clf.txt"),
        "arena_hard/question_v0.1.jsonl": ("arena_hard", "question_v0.1.jsonl"),
        "arena_hard/question_v2.0.jsonl": ("arena_hard", "question_v2.0.jsonl"),
    }
    for key, place in places.items():
        assert PUBLISHED[key].sha256 == hashlib.sha256(golden(*place).read_bytes()).hexdigest(), key


def test_sources_are_commits_and_whole_hashes() -> None:
    for key, source in PUBLISHED.items():
        assert re.fullmatch("[0-9a-f]{40}", source.revision), key
        assert re.fullmatch("([0-9a-f]{64})?", source.sha256), key


def test_files_of_a_package_are_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_one/data").mkdir(parents=True)
    (tmp_path / "heavy_one/__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "heavy_one/data/prompt.txt").write_text("x")
    monkeypatch.syspath_prepend(tmp_path)
    assert packaged_file("heavy_one", "data/prompt.txt") == tmp_path / "heavy_one/data/prompt.txt"
    assert packaged_file("heavy_one", "data/other.txt") is None
    assert packaged_file("no_such_package_at_all", "x") is None


ALPACA = """
import hashlib, json, os, sys
from dataclasses import replace
from pathlib import Path
from benchmarks.shared.published import PUBLISHED
from benchmarks.alpaca_eval.official import AlpacaEval2
for key, source in PUBLISHED.items():
    own = Path(sys.argv[1]) / key
    if own.is_file():
        PUBLISHED[key] = replace(source, sha256=hashlib.sha256(own.read_bytes()).hexdigest())
for data_dir in (sys.argv[1], ""):
    os.environ["SAIL_BENCH_DATA_DIR"] = data_dir
    print(json.dumps(AlpacaEval2().protocol()), flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
def test_alpaca_eval_is_the_same_from_a_folder_and_from_the_hub(site: Site, tmp_path: Path) -> None:
    """Small files of our own in place of the official ones: the set brings its difficulty and anchors with it."""
    folder = tmp_path / "data/alpaca_eval"
    folder.mkdir(parents=True)
    content = {
        "alpaca_eval_gpt4_baseline.json": json.dumps([{"instruction": f"Do {i}", "output": "x"} for i in range(2)]),
        "instruction_difficulty.csv": "instruction_difficulty\n0.5\n-0.5\n",
        "df_gamed.csv": "index,std_delta_len,preference\n0,1.0,0.2\n1,-1.0,0.7\n",
        "alpaca_eval_clf.txt": "<|im_start|>user\n{instruction} {output_1} {output_2}\n<|im_end|>\n",
    }
    for name, text in content.items():
        (folder / name).write_text(text)
        s = PUBLISHED[f"alpaca_eval/{name}"]
        kind = f"/datasets/{s.repository}/resolve" if s.home == "dataset" else f"/{s.repository}"
        site.files[f"{kind}/{s.revision}/{s.path}"] = text.encode()
    with subprocess.Popen(
        [sys.executable, "-c", ALPACA, str(folder.parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(site, tmp_path / "home"),
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        from_folder = json.loads(process.stdout.readline())
        assert not site.requests
        process.stdin.write("\n")
        process.stdin.flush()
        from_hub = json.loads(process.stdout.readline())
        assert site.requests
        process.stdin.close()
    assert find_spec("alpaca_eval") is not None or from_folder == from_hub
    assert from_folder["set"] == from_hub["set"]


SWITCHED_OFF = """
import os
import datasets, huggingface_hub, transformers.utils.hub
from harness.store.hub import switch_off
assert not (huggingface_hub.is_offline_mode() or datasets.config.HF_HUB_OFFLINE)
switch_off()
assert huggingface_hub.is_offline_mode() and datasets.config.HF_HUB_OFFLINE
assert transformers.utils.hub.is_offline_mode() and os.environ["HF_HUB_OFFLINE"] == "1"
"""


@pytest.mark.slow
def test_libraries_that_are_imported_already_can_be_switched_off(site: Site, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", SWITCHED_OFF], env=environment(site, tmp_path), check=True)
