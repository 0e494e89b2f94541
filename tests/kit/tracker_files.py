"""What trackers wrote, read back with their own readers: numbers by run, name and step."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Curves = dict[str, dict[str, list[tuple[int, float]]]]
"""By run and metric: step and value, in the order in which they were written."""


def _add(curves: Curves, run: str, name: str, step: int, value: Any) -> None:
    if isinstance(value, int | float):
        curves.setdefault(run, {}).setdefault(name, []).append((step, float(value)))


def trackio_rows(folder: Path, project: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Run, step and values of each row of Trackio's database."""
    with sqlite3.connect(folder / f"{project}.db") as database:
        query = "SELECT run_name, step, metrics FROM metrics ORDER BY id"
        for run, step, text in database.execute(query):
            yield run, step, json.loads(text)


def trackio_curves(folder: Path, project: str) -> Curves:
    """Of Trackio's database."""
    curves: Curves = {}
    for run, step, values in trackio_rows(folder, project):
        for name, value in values.items():
            _add(curves, run, name, step, value)
    return curves


def wandb_records(folder: Path) -> Iterator[tuple[str, Any]]:
    """Run and record of all offline files of wandb, oldest first."""
    from wandb.proto import wandb_internal_pb2

    for file in sorted((folder / "wandb").glob("offline-run-*/run-*.wandb")):
        name = ""
        for data in level_db_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            name = record.run.display_name or name
            yield name, record


def level_db_records(data: bytes, block: int = 32768) -> Iterator[bytes]:
    """Records of a file in LevelDB's log format, after wandb's header of 7 bytes; an unfinished one ends it."""
    place, parts = 7, b""
    while place + 7 <= len(data):
        left = block - place % block
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        if kind == 0 or place + 7 + length > len(data):
            return
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield parts
            parts = b""


def wandb_curves(folder: Path) -> Curves:
    """Of wandb's offline files."""
    curves: Curves = {}
    for run, record in wandb_records(folder):
        if record.WhichOneof("record_type") == "history":
            for item in record.history.item:
                name = item.key or "/".join(item.nested_key)
                if not name.startswith("_"):
                    _add(curves, run, name, record.history.step.num, json.loads(item.value_json))
    return curves


def tensorboard_curves(folder: Path) -> Curves:
    """Of TensorBoard's event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves: Curves = {}
    for path in sorted({file.parent for file in folder.rglob("events.out.*")}):
        events = EventAccumulator(str(path), size_guidance={"scalars": 0})
        events.Reload()
        for name in events.Tags()["scalars"]:
            for event in events.Scalars(name):
                _add(curves, str(path.relative_to(folder)), name, event.step, event.value)
    return curves


def tensorboard_texts(folder: Path, run: str, name: str) -> list[str]:
    """Texts of a run in TensorBoard's event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / run))
    events.Reload()
    return [event.tensor_proto.string_val[0].decode() for event in events.Tensors(f"{name}/text_summary")]
