"""Ids of examples: given before rows are dropped, checked where a user gives them; rows of streams."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, IterableDataset

from sail.config import SAILConfig
from sail.data import columns_of, may_use_label, select_rows, with_example_ids


def args(tmp_path: Path, **changes: Any) -> SAILConfig:
    return SAILConfig(output_dir=str(tmp_path), **changes)


def stream(rows: list[dict[str, Any]], shards: int = 1) -> IterableDataset:
    """A stream that does not know its columns, as one from a generator."""

    def read(parts: list[list[dict[str, Any]]]) -> Any:
        for part in parts:
            yield from part

    return IterableDataset.from_generator(read, gen_kwargs={"parts": [rows[i::shards] for i in range(shards)]})


def test_row_numbers_and_the_users_own() -> None:
    data = Dataset.from_list([{"x": i} for i in range(5)]).select([4, 2, 0])
    assert with_example_ids(data, "train")["example_id"][:] == [0, 1, 2]
    own = Dataset.from_list([{"example_id": i} for i in (9, -3, 2**40)])
    assert with_example_ids(own, "train")["example_id"][:] == [9, -3, 2**40]
    assert with_example_ids(own.with_format("torch"), "train") is not None


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["a", "b"], "example_id of the eval set holds the type string"),
        ([0.0, 1.0], "holds the type float64"),
        ([True, False], "holds the type bool"),
        ([[1], [2]], "example_id of the eval set holds"),
        ([1, None], "holds None in row 1"),
        ([4, 7, 5, 7], "example_id of the eval set is 7 in rows 1 and 3"),
    ],
)
def test_ids_that_name_nothing(ids: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        with_example_ids(Dataset.from_list([{"example_id": i} for i in ids]), "eval")


def test_rows_of_a_stream_are_numbered() -> None:
    data = with_example_ids(stream([{"x": i} for i in range(4)]), "train")
    assert [(row["x"], row["example_id"]) for row in data] == [(i, i) for i in range(4)]
    assert columns_of(data) == ["x", "example_id"]
    assert [row["example_id"] for row in data] == [0, 1, 2, 3]  # the second epoch is numbered alike
    with pytest.raises(ValueError, match="example_id of the train set holds 'a'"):
        list(with_example_ids(stream([{"example_id": "a"}]), "train"))


def test_shards_that_several_readers_would_number_alike() -> None:
    rows = [{"x": i} for i in range(4)]
    with pytest.raises(ValueError, match="streams 2 shards to 4 readers"):
        with_example_ids(stream(rows, shards=2), "train", readers=4)
    assert len(list(with_example_ids(stream(rows, shards=2), "train", readers=1))) == 4
    assert len(list(with_example_ids(stream([{"example_id": 3}] * 2, shards=2), "train", readers=4))) == 2


def test_options_of_a_stream(tmp_path: Path) -> None:
    """Filters work row by row; sorting cannot."""
    rows = [{"example_id": i, "strength": s} for i, s in enumerate((0.5, -0.1, 2.0, -0.7))]
    data = select_rows(stream(rows), args(tmp_path, min_strength=0.5))
    assert [row["example_id"] for row in data] == [0, 2, 3]
    with pytest.raises(ValueError, match="curriculum='wide-to-narrow' sorts the rows, and a stream cannot be sorted"):
        select_rows(stream(rows), args(tmp_path, curriculum="wide-to-narrow"))
    many = [{"example_id": i} for i in range(40)]
    labelled = [e for e in range(40) if may_use_label(42, e, 0.25)]
    few = select_rows(stream(many), args(tmp_path, label_fraction=0.25))
    assert [row["example_id"] for row in few] == labelled
    with pytest.raises(ValueError, match="'strength' column"):
        select_rows(stream(many), args(tmp_path, min_strength=0.5))


def test_nothing_left_and_strengths_that_are_no_numbers(tmp_path: Path) -> None:
    data = Dataset.from_list([{"example_id": i, "strength": s} for i, s in enumerate((0.5, -2.0))])
    with pytest.raises(ValueError, match=r"min_strength=3 leaves none of the 2 rows .* the largest \|strength\| is 2"):
        select_rows(data, args(tmp_path, min_strength=3.0))
    with pytest.raises(ValueError, match="label_fraction=1e-09 leaves none of the 2 rows"):
        select_rows(data, args(tmp_path, label_fraction=1e-9))
    for value in (None, math.nan):
        broken = Dataset.from_list([{"strength": 1.0}, {"strength": value}])
        with pytest.raises(ValueError, match="'strength' is (None|nan) in row 1"):
            select_rows(broken, args(tmp_path, min_strength=0.1))
