"""A key and hostile text through everything that a server or a plugin says: absent or inert wherever it is shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from kit.command import Cli
from kit.judge_server import Behaviour, Handler, completion
from kit.planted import HOSTILE, KEY, PLANTED, check_page, check_secret, check_shown
from kit.rows import write_rows

from harness.answer import client as client_module

PAIRS = [{"prompt": f"Question {i}", "chosen": f"fine {i}", "rejected": "poor"} for i in range(3)]
FINE = completion("A")


def saying(body: Any, status: int = 200, **headers: str) -> Behaviour:
    return lambda handler, request, n: handler.send(body, status, **headers)


def at_question(number: int, body: Any, status: int) -> Behaviour:
    """Only this question gets the answer."""

    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        at_it = f"Question {number}" in request["messages"][-1]["content"]
        handler.send(body if at_it else FINE, status if at_it else 200)

    return inner


def finish(value: str) -> dict[str, Any]:
    body = completion("A")
    body["choices"][0]["finish_reason"] = value
    return body


def no_status(handler: Handler, request: dict[str, Any], n: int) -> None:
    handler.wfile.write(f"HTTP/1.1 {KEY}\r\n\r\n".encode())
    handler.close_connection = True


ERROR = {"error": {"message": PLANTED, "param": PLANTED, "type": PLANTED}}
CHANNELS: dict[str, Behaviour] = {
    "model": saying(FINE | {"model": PLANTED}),
    "fingerprint": saying(FINE | {"system_fingerprint": PLANTED}),
    "reason to end": saying(finish(PLANTED)),
    "verdict": saying(completion(PLANTED)),
    "refusal of a question": at_question(1, ERROR, 400),
    "refusal of all": saying(ERROR, 401),
    "refusal in text": saying(PLANTED.encode(), 400),
    "error of the server": saying(ERROR, 500),
    "error under 200": saying(ERROR),
    "passing error under 200": saying({"error": {"message": f"overloaded {PLANTED}"}}),
    "compression": saying(FINE, content_encoding=KEY),
    "place of a redirect": saying({}, 307, location=f"gopher://{KEY}.example/\u00ff"),
    "status line": no_status,
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LONGEST_WAIT", 0.01)
    monkeypatch.setenv("PLANTED_API_KEY", KEY)


@pytest.mark.parametrize("channel", CHANNELS)
def test_what_a_judge_says(channel: str, serve: Any, tmp_path: Path, cli: Cli) -> None:
    """By the real command against a real server: terminal, log, card as JSON, card as a page, and what is kept."""
    server = serve(CHANNELS[channel])
    url = f"http://127.0.0.1:{server.server_port}/v1?key={KEY}"
    pairs = write_rows(tmp_path / "pairs.jsonl", PAIRS)
    options = ["--base-url", url, "--api-key-env", "PLANTED_API_KEY", "--retries", "1", "--verdict", "text"]
    done = cli("judge-card", "judge-x", "--pairs", pairs, *options, cwd=tmp_path)
    assert server.asked, done.stderr
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert done.returncode in (0, 2)
    assert "Traceback" not in done.stderr
    for text in (done.stdout, done.stderr):
        check_shown(text)
        check_secret(text)
    cards = [*(tmp_path / "results").rglob("*.json")]
    assert bool(cards) == (done.returncode == 0)
    for path in cards:
        text = path.read_text(encoding="utf-8")
        check_secret(text)
        assert "\x1b" not in text
        assert "url" not in json.loads(text)["judge"]
        page = path.with_suffix(".md").read_text(encoding="utf-8")
        check_page(page)
        check_secret(page)
    kept = b"".join(path.read_bytes() for path in (tmp_path / ".sail-bench/rows").glob("*"))
    if channel == "verdict":
        assert KEY.encode() in kept, "an answer is kept as it came"
    else:
        assert KEY[:8].encode() not in kept
        assert KEY[3:11].encode() not in kept


SUMMARY = f'''
from harness.methods.dpo import DPO

class Mine(DPO):
    """A method."""

    name = "mine"
    summary = {PLANTED!r}
    paper = {PLANTED!r}
    published = {PLANTED!r}
'''


def distribution(folder: Path, entries: dict[str, str], **files: str) -> Path:
    info = folder / "odd_methods-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-methods\nVersion: 1.2\n")
    lines = "".join(f"{key} = {value}\n" for key, value in entries.items())
    (info / "entry_points.txt").write_text(f"[harness.methods]\n{lines}")
    for module, text in files.items():
        (folder / f"{module}.py").write_text(text, encoding="utf-8")
    return folder


def test_what_a_plugin_says_in_listings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    """Its summary, its facts and its error, in words and as JSON."""
    files = {"odd_fine": SUMMARY, "odd_broken": f"raise ValueError({PLANTED!r})\n"}
    site = distribution(tmp_path / "site", {"mine": "odd_fine:Mine", "sad": "odd_broken:Sad"}, **files)
    monkeypatch.syspath_prepend(str(site))
    listed, as_json = cli("methods", cwd=tmp_path), cli("methods", "--json", cwd=tmp_path)
    for done in (listed, as_json):
        assert done.returncode == 0, done.stderr
        check_shown(done.stdout + done.stderr)
        check_secret(done.stdout + done.stderr)
    entries = {entry["name"]: entry for entry in json.loads(as_json.stdout)}
    assert entries["mine"]["summary"] == f"{HOSTILE} *** ***", "but for the key, JSON is faithful"
    assert "alert(1)" in entries["sad"]["error"], "the first line of it"
    refused = cli("compare", "tiny", "--methods", "sad", cwd=tmp_path)
    assert refused.returncode == 2
    check_shown(refused.stderr)
    check_secret(refused.stderr)
    assert [line[:7] for line in refused.stderr.strip().split("\n")] == ["Error: "]


def test_all_text_of_commands_goes_through_one_place() -> None:
    """``say`` and ``say_json``; tables are made by ``rich_table``, which makes their text inert."""
    write = re.compile(r"click\.s?echo|(?<!console\.)\bprint\(|sys\.std(?:out|err)\.write")
    files = [path for path in sorted((ROOT / "harness" / "cli").glob("*.py")) if path.name != "terminal.py"]
    assert len(files) > 15
    assert [f"{p.name}: {w}" for p in files for w in write.findall(p.read_text("utf-8"))] == []


def test_planted_text_is_what_it_should_be() -> None:
    with pytest.raises(AssertionError):
        check_shown(HOSTILE)
    with pytest.raises(AssertionError):
        check_secret(PLANTED)
    with pytest.raises(AssertionError):
        check_secret(KEY[3:])
