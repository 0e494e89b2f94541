"""Recipes, imported pairs and official files, changed and torn; and what reads them."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from hypothesis import strategies as st

from harness.answer.reply import Call, Reply
from harness.pairs.imported import imported_pairs
from harness.recipe.load import load_recipe
from harness.recipe.recipe import PairsSpec, Recipe
from harness.run.compare import CompareOptions
from harness.run.configure import make_benchmark
from harness.run.recipe_check import check_recipe
from harness.store.settings import settings, using
from harness.store.stages import Store
from tests.chaos.fuzz import Subject
from tests.chaos.mutations import changed, torn
from tests.kit.command import tiny_recipe
from tests.kit.official_data import write_official_data

ENDPOINT = {"model": "m", "base_url": "http://127.0.0.1:9/v1", "price_in": 1.0, "price_out": 2.0}
IMPORTED = {"task": "preferences", "tune_prompts": 1, "eval_prompts": 2, "heldout_prompts": 2}
RECIPES = (
    tiny_recipe(),
    tiny_recipe(
        judge=ENDPOINT,
        endpoints={"far": ENDPOINT},
        methods=["start", "dpo", "far"],
        benchmarks={"mt_bench_official": {"limit": 2}, "preference": {"max_new_tokens": 4}},
    ),
    tiny_recipe(
        variants={"mine": {"method": "dpo", "options": {"beta": 0.2}}},
        methods=["start", "dpo", "mine", "sail-pr"],
        tune={"learning_rates": [1e-3, 3e-3], "trials": 2, "grids": {"sail-pr": {"share": [0.1, 0.2]}}},
        method_options={"dpo": {"beta": 0.3}},
        seeds=2,
    ),
    tiny_recipe(prices={"device_hour": 1.5, "currency": "EUR"}, thinking="strip", precision="float32"),
)
PAIRS: tuple[list[dict[str, Any]], ...] = (
    [{"prompt": f"Q {i}?", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(8)],
    [
        {
            "prompt": [{"role": "user", "content": f"Q {i}"}],
            "chosen": [{"role": "assistant", "content": f"good {i}"}],
            "rejected": [{"role": "assistant", "content": f"bad {i}"}],
            "score_chosen": 2.0,
            "score_rejected": 1,
        }
        for i in range(8)
    ],
    [{"prompt": f"Q {i}", "response_0": "no", "response_1": f"yes {i}", "better_response_id": 1} for i in range(8)],
    [
        {"chosen": f"\n\nHuman: Q {i}\n\nAssistant: a", "rejected": f"\n\nHuman: Q {i}\n\nAssistant: b"}
        for i in range(8)
    ],
)
BENCHMARKS = {"mt_bench": ("mt_bench_official", "mt_bench_pairwise"), "alpaca_eval": ("alpaca_eval_2",)}


def subjects(folder: Path) -> list[Subject]:
    """The subjects that read files.

    Args:
        folder: of the files.
    """
    official = write_official_data(folder / "sound")
    files = sorted(path.relative_to(official).as_posix() for path in official.rglob("*.*"))
    numbers = itertools.count()

    def fresh() -> Path:
        place = folder / str(next(numbers))
        place.mkdir()
        return place

    return [
        Subject(
            "recipes",
            [_as_yaml(recipe) for recipe in RECIPES],
            _recipes(),
            lambda text: _in(fresh(), lambda place: _read_recipe(official, place, text)),
            0.3,
        ),
        Subject(
            "imported pairs",
            [("train.jsonl", _lines(rows)) for rows in PAIRS],
            _pairs(),
            lambda file: _in(fresh(), lambda place: _read_pairs(place, *file)),
            0.25,
        ),
        Subject(
            "official files",
            [(name, (official / name).read_bytes()) for name in files],
            st.sampled_from(files).flatmap(lambda name: _official(official, name)),
            lambda file: _in(fresh(), lambda place: _read_official(official, place, *file)),
            0.2,
        ),
    ]


def _in(place: Path, read: Any) -> None:
    """Read in a folder, which goes afterwards."""
    try:
        read(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _recipes() -> st.SearchStrategy[bytes]:
    """YAML, most of it as ``yaml`` or ``json`` writes it."""
    values = st.sampled_from(RECIPES).flatmap(changed)
    texts = st.one_of(values.map(_as_yaml), values.map(lambda value: json.dumps(value).encode()))
    sound = [_as_yaml(recipe) for recipe in RECIPES]
    bombs = st.integers(2, 3000).map(lambda n: b"name: x\nmodel: " + b"[" * n + b"]" * n)
    aliases = st.integers(2, 40).map(
        lambda n: ("a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i},*a{i}]\n" for i in range(n))).encode()
    )
    return st.one_of(texts, texts, st.sampled_from(sound).flatmap(torn), bombs, aliases)


def _as_yaml(value: Any) -> bytes:
    try:
        return yaml.safe_dump(value, allow_unicode=False).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, RecursionError):
        return json.dumps(value).encode()


def _read_recipe(official: Path, place: Path, text: bytes) -> None:
    """What ``plan`` does before it looks at the machine.

    Args:
        official: folder of the official data.
        place: for the recipe.
        text: of the recipe.
    """
    path = place / "odd.yaml"
    path.write_bytes(text)
    with using(replace(settings(), data_dir=str(official), offline=True)):
        recipe = load_recipe(str(path))
        faults = check_recipe(recipe).faults
        CompareOptions(recipe, store=place / "store", faults=faults).runs()


def _pairs() -> st.SearchStrategy[tuple[str, bytes]]:
    """The name of a file and its bytes."""
    rows = st.sampled_from(PAIRS).flatmap(changed)
    sound = st.sampled_from(PAIRS)
    written = st.one_of(
        rows.map(lambda value: ("train.jsonl", _lines(value))),
        rows.map(lambda value: ("train.json", json.dumps(value).encode())),
        rows.map(lambda value: ("train.csv", _table(value, ","))),
        rows.map(lambda value: ("train.tsv", _table(value, "\t"))),
    )
    broken = st.one_of(
        sound.flatmap(lambda value: torn(_lines(value))).map(lambda data: ("train.jsonl", data)),
        sound.flatmap(lambda value: torn(_table(value, ","))).map(lambda data: ("train.csv", data)),
        st.binary(max_size=200).map(lambda data: ("train.parquet", b"PAR1" + data + b"PAR1")),
        st.binary(max_size=200).map(lambda data: ("train.jsonl.gz", b"\x1f\x8b\x08" + data)),
    )
    return st.one_of(written, written, broken)


def _lines(rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in (rows if isinstance(rows, list) else [rows])).encode()


def _table(rows: Any, separator: str) -> bytes:
    """CSV of rows, or of what is left of them."""
    dictionaries = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    text, names = io.StringIO(), list(dict.fromkeys(key for row in dictionaries for key in row))
    writer = csv.writer(text, delimiter=separator)
    writer.writerow(names)
    writer.writerows([str(row.get(name, "")) for name in names] for row in dictionaries)
    return text.getvalue().encode("utf-8", "surrogatepass")


def _read_pairs(place: Path, name: str, data: bytes) -> None:
    (place / name).write_bytes(data)
    (place / "test.jsonl").write_bytes(_lines([row | {"prompt": f"T {i}"} for i, row in enumerate(PAIRS[0])]))
    names = {"train": str(place / name), "test": str(place / "test.jsonl")}
    pairs = imported_pairs(PairsSpec.model_validate(IMPORTED | names), Store(place / "store"))
    json.dumps([pairs.counts, *(list(rows) for rows in pairs.parts.values())]).encode()


def _official(root: Path, name: str) -> st.SearchStrategy[tuple[str, bytes]]:
    """The name of a file of the official data, and its bytes when something has happened to it."""
    sound = (root / name).read_bytes()
    options = [torn(sound)]
    if name.endswith(".jsonl"):
        rows = [json.loads(line) for line in sound.splitlines()]
        options += 2 * [changed(rows).map(_lines)]
    return st.one_of(*options).map(lambda data: (name, data))


def _read_official(root: Path, place: Path, name: str, data: bytes) -> None:
    """Everything that a comparison does with official files, with made answers and replies."""
    shutil.copytree(root, place / "data")
    (place / "data" / name).write_bytes(data)
    with using(replace(settings(), data_dir=str(place / "data"), offline=True)):
        for benchmark in BENCHMARKS[name.split("/")[0]]:
            _score(benchmark)


def _score(name: str) -> None:
    """Answer, judge and score a benchmark.

    Args:
        name: of the benchmark.
    """
    benchmark = make_benchmark(Recipe.model_validate(RECIPES[0]), name)
    benchmark.ready()
    benchmark.protocol()
    benchmark.cost(4, trained=True)
    texts = benchmark.prompt_texts()

    def ask(calls: Sequence[Call]) -> list[Reply]:
        return [Reply("[[6]] [[A]] m", {"m": -0.1, "M": -2.0}, "judge") for call in calls if call.request()]

    answers = [{"text": f"answer {i}", "truncated": False, "tokens": 3} for i in range(len(texts))]
    if name == "alpaca_eval_2":
        rows: Any = [
            {"index": i, "prompt": text, "answer": answer}
            for i, (text, answer) in enumerate(zip(texts, answers, strict=True))
        ]
    else:
        rows = [
            {"question_id": q.question_id, "category": q.category, "prompt": list(q.turns), "turns": [answer, answer]}
            | {"start": [answer, answer], "baseline": [answer, answer]}
            for q, answer in zip(benchmark.questions(), answers, strict=True)  # type: ignore[attr-defined]
        ]
    if name != "mt_bench_pairwise":  # which asks the start policy
        json.dumps(benchmark.score(benchmark.judge(rows, SimpleNamespace(ask=ask))).metrics, default=str)  # type: ignore[arg-type]
