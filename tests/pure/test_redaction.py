"""Keys in errors and logs: what shares eight characters with one is replaced, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.planted import HOSTILE, KEY, PLANTED, check_secret, check_shown

from harness.recipe.endpoint import Endpoint
from harness.store.foreign_text import CleanLog, clipped, error_text, log_text, shown_text
from harness.store.redaction import _replaced, address_keys, keep_out, redacted, shown_address

LETTERS = st.text("abAB01-", min_size=16, max_size=24)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PLANTED_API_KEY", KEY)
    return KEY


def shared(text: str, key: str) -> set[int]:
    """Places of a text that lie in a stretch of eight characters or more that the key has too, by brute force."""
    stretches = [(a, b) for a in range(len(text)) for b in range(a + 8, len(text) + 1) if text[a:b] in key]
    return {place for a, b in stretches for place in range(a, b)}


@given(LETTERS, st.lists(st.integers(0, 20), max_size=3), st.text("abAB01- ", max_size=12), st.integers(6, 20))
def test_exactly_the_shared_stretches_are_replaced(key: str, starts: list[int], filler: str, length: int) -> None:
    text = filler + "".join(key[start : start + length] + filler for start in starts)
    covered = shared(text, key)
    expected = "".join(
        "" if at in covered and at - 1 in covered else "***" if at in covered else letter
        for at, letter in enumerate(text)
    )
    pieces = {key[at : at + 8] for at in range(len(key) - 7)}
    got = _replaced(text, [at for at in range(len(text) - 7) if text[at : at + 8] in pieces])
    assert got == expected
    assert not shared(got, key)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (KEY, "***"),
        (KEY[3:], "***"),
        (f"Incorrect API key: {KEY[:8]}...{KEY[-4:]}.", f"Incorrect API key: ***...{KEY[-4:]}."),
        (f"{KEY[:7]} {KEY[9:16]}", f"{KEY[:7]} {KEY[9:16]}"),
        (f"a{KEY}{KEY[3:]}b", "a***b"),
        ("no key here", "no key here"),
        ("", ""),
    ],
)
def test_pieces_of_a_key(text: str, clean: str, key: str) -> None:
    assert redacted(text) == clean


def test_which_variables_hold_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "id_of_a_longer_name"
    file.write_text("")
    names = ("MY_KEY", "HF_TOKEN", "A_SECRET", "DB_PASSWORD", "COLOUR")
    values = {name: f"{place}{name.lower() * 4}" for place, name in enumerate(names)}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SSH_KEY", str(file))
    for name, value in values.items():
        assert (redacted(value) == "***") == (name != "COLOUR"), name
    assert redacted(f"cannot read {file}") == f"cannot read {file}", "a variable that names a file holds no key"
    monkeypatch.setenv("LATER", "0123456789abcdefgh")
    assert redacted("0123456789abcdefgh") == "0123456789abcdefgh"
    Endpoint(model="m", api_key_env="LATER")
    assert redacted("is 0123456789abcdefgh") == "is ***", "a recipe names the variable"


def test_a_short_key_is_replaced_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT_KEY", "sk-secret")
    monkeypatch.setenv("TINY_KEY", "none")
    assert redacted("sk-secret, sk-secre, none") == "***, sk-secre, none"


def test_keys_of_addresses() -> None:
    address = f"https://user:pass%20word-{KEY}@host:1/v1?api-version=2024-02&key={KEY}%2B1&flag#x"
    assert address_keys(address) == {f"pass%20word-{KEY}", f"pass word-{KEY}", f"{KEY}%2B1", f"{KEY}+1"}
    assert shown_address(address) == "https://host:1/v1"
    assert address_keys("http://[broken") == set()
    keep_out(address="http://host/v1?key=Q1w2E3r4T5y6U7i8O9")
    assert redacted("GET /v1/models?key=Q1w2E3r4T5y6U7i8O9") == "GET /v1/models?key=***"


def test_errors_of_others_are_short_clean_lines(key: str) -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise ValueError

    for text in (error_text(PLANTED), error_text(ValueError(PLANTED * 1000)), error_text("half \ud83d" + PLANTED)):
        assert "\n" not in text
        assert len(text) <= 2000
        text.encode()
        check_secret(text)
        check_shown(text)
    assert error_text(OddError()) == "its text cannot be read: ValueError"
    assert clipped("abcdef", 4) == "abc…"


def test_a_log_is_clean_and_keeps_its_lines(key: str, tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    number = os.open(path, os.O_WRONLY | os.O_CREAT)
    log = CleanLog.of(number)
    print("step 1\rstep 2", "half \ud83d", HOSTILE, file=log)
    log.write(f"Traceback: {KEY}\n")
    text = path.read_bytes().decode()
    os.close(number)
    check_secret(text)
    assert text.startswith("step 1\rstep 2 half \ufffd <script>")
    assert text.count("\n") == 4
    assert "\x1b" not in text
    assert log_text("a\tb\r\n") == "a b\r\n"
    assert shown_text(f"x\r{KEY}") == "x\ufffd***"
