"""RewardBench's data and sections: the official score by hand, all formats, what is wrong with a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.rewardbench import own_pairs, write_pairs

from benchmarks.rewardbench import RewardBench, RewardBenchOptions
from benchmarks.rewardbench.accuracy import score_pairs
from benchmarks.rewardbench.pairs import REVISION, _read_hub, draw_pairs, find_pairs_file, read_pairs
from benchmarks.rewardbench.sections import OFFICIAL_SIZE, SECTIONS, SIZES, WEIGHTS, set_label
from harness.benchmark import Row
from harness.errors import UserError
from harness.score.metrics import evaluate


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path))
    write_pairs(tmp_path, own_pairs())
    return tmp_path


def test_the_sections_are_the_published_ones() -> None:
    """Sizes of the paper's table 1: 358, 456, 740 and 1,431 pairs; math counts as much as code."""
    sizes = {name: sum(SIZES[s] for s in section) for name, section in SECTIONS.items()}
    assert sizes == {"Chat": 358, "Chat Hard": 456, "Safety": 740, "Reasoning": 1431}
    assert (OFFICIAL_SIZE, len(SIZES)) == (2985, 23)
    assert WEIGHTS["math-prm"] == sum(w for s, w in WEIGHTS.items() if s.startswith("hep-")) == 984
    assert set_label(SIZES) == "official set"
    assert set_label(SIZES, 300) == "300 of 2,985, drawn by subset"
    assert set_label({"donotanswer": 136}) == "136 of 2,985"


def official_rows(each: int, seed: int = 0) -> tuple[list[Row], list[float]]:
    rng = np.random.default_rng(seed)
    rows = [
        {"id": f"{s}/{i}", "subset": s, "weight": 1.0, "of": each} for s in SIZES for i in range(each)
    ]  # fmt: skip
    return rows, [float(v) for v in rng.integers(0, 2, len(rows))]


def test_the_official_score_by_hand() -> None:
    """Accuracy by subset first, then sections weighted by the published counts, then their mean."""
    rows, values = official_rows(5)
    groups, metrics, _ = score_pairs(rows, {"accuracy": list(values)}, {"accuracy": ""}, "RewardBench")
    by_name = {m.name: evaluate(m, groups) for m in metrics}
    by = {s: np.mean([v for r, v in zip(rows, values, strict=True) if r["subset"] == s]) for s in SIZES}
    sections = {}
    for name, section in SECTIONS.items():
        sections[name] = 100 * sum(by[s] * n for s, n in section.items()) / sum(section.values())
        assert by_name[name].value == pytest.approx(sections[name], abs=1e-4)
        assert by_name[name].n_total == 5 * len(section)
    assert by_name["accuracy"].value == pytest.approx(np.mean(list(sections.values())), abs=1e-4)
    assert by_name["accuracy"].title == "RewardBench"
    assert abs(by_name["accuracy"].value - 100 * np.mean(values)) > 0.5  # the plain mean is another number


def test_a_missing_subset_leaves_the_plain_mean() -> None:
    rows, values = official_rows(3)
    some = [(r, v) for r, v in zip(rows, values, strict=True) if r["subset"] != "math-prm"]
    groups, metrics, _ = score_pairs(
        [r for r, _ in some], {"accuracy": [v for _, v in some]}, {"accuracy": ""}, "RewardBench"
    )
    assert [m.title for m in metrics] == ["RewardBench-format pairs, mean"]
    assert evaluate(metrics[0], groups).value == pytest.approx(100 * np.mean([v for _, v in some]), abs=1e-4)
    assert list(groups) == ["items"]


def test_a_drawn_part_estimates_the_whole(folder: Path) -> None:
    """Weights of a drawn part: each subset as heavy as in the whole set."""
    rows = [
        {"prompt": "x", "chosen": "a", "rejected": "b", "subset": s} for s, n in SIZES.items() for _ in range(n)
    ]  # fmt: skip
    write_pairs(folder, rows)
    benchmark = RewardBench(RewardBenchOptions(limit=200))
    assert benchmark.label == "200 of 2,985, drawn by subset"
    drawn = draw_pairs(benchmark.path, 200, 0)
    assert len(drawn) == 200
    assert {r["subset"] for r in drawn} == set(SIZES)
    groups, metrics, _ = score_pairs(drawn, {"accuracy": [1.0] * 200}, {"accuracy": ""}, "RewardBench")
    assert evaluate(metrics[0], groups).value == 100
    mass = {
        s: sum(
            w
            for w, name in zip(groups["items"]["section_weight"], groups["items"]["subject"], strict=True)
            if name == s
        )
        for s in SIZES
    }
    assert mass == pytest.approx(WEIGHTS, rel=1e-4)
    assert RewardBench().protocol() != benchmark.protocol()
    assert benchmark.protocol() != RewardBench(RewardBenchOptions(limit=200, seed=1)).protocol()


def test_all_formats_hold_the_same_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_pairs(write_pairs(tmp_path / "a", own_pairs()))
    assert len(expected) == 12
    assert read_pairs(write_pairs(tmp_path / "b", own_pairs(), "filtered.parquet")) == expected
    assert read_pairs(write_pairs(tmp_path / "c", own_pairs(), "filtered.json")) == expected
    requests = []

    def hub(repository: str, **more: Any) -> list[Row]:
        requests.append((repository, more))
        return own_pairs()

    monkeypatch.setattr("datasets.load_dataset", hub)
    monkeypatch.setattr("harness.store.hub.answers", lambda: True)
    monkeypatch.delenv("SAIL_BENCH_DATA_DIR", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    _read_hub.cache_clear()
    benchmark = RewardBench()
    assert (benchmark.path, benchmark.label) == (None, "official set")
    assert benchmark.protocol()["data"] == f"allenai/reward-bench@{REVISION}"
    assert read_pairs(None) == expected
    assert requests == [("allenai/reward-bench", {"name": None, "split": "filtered", "revision": REVISION})]
    _read_hub.cache_clear()


GOOD = '{"prompt": "p", "chosen": "a", "rejected": "b", "subset": "s"}'
NAMED = GOOD.replace("}", ', "id": 7}')
TWICE = "\n".join([NAMED, NAMED.replace("7", "8"), NAMED.replace('"b"', '"c"')])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f'{GOOD}\n\n{{"prompt": "p", "chosen": "a", "subset": "s"}}', "line 3: the key 'rejected' is missing"),
        (f"{GOOD}\n{{broken", "line 2"),
        (GOOD.replace('"a"', '["a"]'), "line 1: a text is expected for 'chosen', not list"),
        (GOOD.replace('"p"', '" "'), "line 1: a text is expected for 'prompt', not an empty one"),
        (GOOD.replace('"s"', "null"), "line 1: a name is expected for 'subset', not nothing"),
        (GOOD.replace('"a"', '"\\udfff"'), "line 1: 'chosen' holds half of a surrogate pair"),
        (GOOD.replace("}", ', "id": "\\ud800"}'), "line 1: 'id' holds half of a surrogate pair"),
        (TWICE, "line 3: line 1 has the id 's/7' too: give each its own, or none"),
        ("", "holds no pair"),
    ],
)  # fmt: skip
def test_bad_rows_are_named(folder: Path, text: str, sentence: str) -> None:
    path = folder / "rewardbench/filtered.jsonl"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        RewardBench()
    assert sentence in str(error.value)
    assert str(path) in str(error.value)


def test_bad_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path))
    path = write_pairs(tmp_path, own_pairs(), "filtered.parquet")
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        RewardBench()
    write_pairs(tmp_path, [{k: v for k, v in r.items() if k != "subset"} for r in own_pairs()], "filtered.parquet")
    with pytest.raises(UserError, match="row 1: the key 'subset' is missing"):
        RewardBench()
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist(own_pairs())
    broken = pyarrow.array([b"Hi?"] * 6 + [b"\xff"] + [b"Hi?"] * 5).view(pyarrow.string())
    pyarrow.parquet.write_table(table.set_column(table.schema.get_field_index("prompt"), "prompt", broken), path)
    with pytest.raises(UserError, match=r"filtered.parquet, row 7, is not UTF-8: convert it"):
        RewardBench()
    path.unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UserError, match="give --data-dir with rewardbench/filtered.jsonl"):
        RewardBench().protocol()
    with pytest.raises(UserError, match="2 subjects"):
        write_pairs(tmp_path, own_pairs())
        draw_pairs(find_pairs_file(), 1, 0)


def test_prompts_are_listed_for_the_check_of_training_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(folder, [*own_pairs(), own_pairs()[0] | {"id": 99}])
    assert RewardBench().prompt_texts() == [f"Question {i}?" for i in range(12)]
    drawn = RewardBench(RewardBenchOptions(limit=5))
    assert drawn.prompt_texts() == [r["prompt"] for r in draw_pairs(drawn.path, 5, 0)]
    monkeypatch.delenv("SAIL_BENCH_DATA_DIR")
    assert RewardBench().prompt_texts() == []
