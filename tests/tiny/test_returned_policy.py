"""The folder that a method returns: a policy, which is copied unless it lies in the work folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import UserError
from harness.run.returned import check_loads, keep_policy
from harness.store.integrity import sha256_of


def _context(work: Path, log: Any = ()) -> Any:
    work.mkdir(parents=True, exist_ok=True)
    return SimpleNamespace(directory=work, log=list(log) if isinstance(log, tuple) else log, tick=lambda: None)


def _contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.is_file()}


def _copy(start: Path, folder: Path) -> Path:
    """The tiny policy in a folder of its own."""
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((start / name).read_bytes())
    return folder


def test_a_folder_of_the_user_is_copied_and_stays(tiny_dir: Path, tmp_path: Path) -> None:
    """Also the start policy's own, by its path or by a link to it in the work folder; checkpoints stay behind."""
    mine = _copy(tiny_dir, tmp_path / "mine")
    (mine / "notes.txt").write_text("mine")
    (mine / "checkpoint-1").mkdir()
    for number, returned in enumerate([mine, str(mine), tmp_path / "work2" / "link"]):
        work = tmp_path / f"work{number}"
        context = _context(work, ({"loss": 0.5},))
        if number == 2:
            (work / "link").symlink_to(mine)
        before = _contents(mine)
        keep_policy("row", returned, context)
        assert _contents(mine) == before
        assert _contents(work / "policy") == before
        assert not (work / "policy").is_symlink()
        assert not (work / "policy" / "checkpoint-1").exists()
        assert json.loads((work / "log.json").read_text()) == [{"loss": 0.5}]


def test_a_folder_in_the_work_folder_is_moved(tiny_dir: Path, tmp_path: Path) -> None:
    """Over what an earlier attempt left, and from inside of it."""
    weights = sha256_of(tiny_dir / "model.safetensors")
    for number, place in enumerate(["policy", "final", "policy/final"]):
        work = tmp_path / str(number)
        context = _context(work)
        if place == "final":
            (work / "policy").mkdir()
            (work / "policy" / "old.txt").write_text("of an earlier attempt")
        keep_policy("row", _copy(tiny_dir, work / place), context)
        assert sorted(path.name for path in work.iterdir()) == ["log.json", "policy"]
        assert set(_contents(work / "policy")) == {"config.json", "model.safetensors"}
        assert sha256_of(work / "policy" / "model.safetensors") == weights


def _without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def _emptied(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (_emptied, "it is empty"),
        (_without_config, "it holds neither config.json nor adapter_config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "it holds no weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "its model.safetensors is empty"),
        (_cut, "its model.safetensors cannot be read"),
        (lambda folder: (folder / "config.json").write_text("{"), "its config.json cannot be read"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "its config.json is no JSON object"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "it holds no weights (adapter_model"),
    ],
)
def test_a_folder_without_a_policy_is_refused_and_nothing_is_published(
    damage: Callable[[Path], Any], fault: str, tiny_dir: Path, tmp_path: Path
) -> None:
    folder = _copy(tiny_dir, tmp_path / "mine")
    damage(folder)
    with pytest.raises(UserError) as raised:
        keep_policy("row", folder, _context(tmp_path / "work"))
    assert f"is no policy: {fault}" in str(raised.value)
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("returned", [None, 7, "/no/such/folder", "a\0b", b"/no/such"])
def test_what_is_no_folder_is_refused(returned: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Method 'row' returned .*(no folder|its folder)"):
        keep_policy("row", returned, _context(tmp_path / "work"))


def test_the_work_folder_itself_and_those_above_it_are_refused(tiny_dir: Path, tmp_path: Path) -> None:
    work = _copy(tiny_dir, tmp_path / "above" / "work")
    for returned in (work, work.parent, Path("/")):
        with pytest.raises(UserError, match="which holds the checkpoints too"):
            keep_policy("row", returned, _context(work))
    assert set(_contents(work)) == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("log", [[{"loss": "low"}], [1], [{1: 0.5}], "rows", [{"loss": None}]])
def test_a_log_of_something_else_than_numbers_is_refused(log: Any, tiny_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Method 'row' (wrote .* of context.log|made context.log)"):
        keep_policy("row", tiny_dir, _context(tmp_path / "work", log))


def test_a_policy_of_an_unknown_kind_does_not_load(tiny_dir: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = _copy(tiny_dir, tmp_path / "mine")
    check_loads("row", folder, AutoModelForCausalLM.from_pretrained)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "nonesuch"}))
    with pytest.raises(UserError, match="Method 'row' returned a policy that cannot be loaded"):
        check_loads("row", folder, AutoModelForCausalLM.from_pretrained)
