"""All that is wrong with a recipe is named at once, in plain sentences; its size is bounded; its hash stays."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.recipe.load import builtin_recipes, load_recipe
from harness.recipe.recipe import Recipe

TINY = builtin_recipes()["tiny"].read_text()
PYDANTIC = ("Input should", "Extra inputs", "Field required", "Value error", "valid string", "validation", "should be")


def faults(folder: Path, text: str) -> list[str]:
    """What is wrong with a recipe; nothing if it loads."""
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        load_recipe(str(path))
    except UserError as error:
        return list(error.sentences)
    return []


def changed(**changes: Any) -> str:
    """The text of tiny with other top-level keys; None leaves a key out."""
    recipe = yaml.safe_load(TINY) | changes
    return yaml.safe_dump({k: v for k, v in recipe.items() if v is not None}, sort_keys=False)


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"methods": None, "metods": ["dpo"]}, "Unknown key in r.yaml: 'metods': did you mean 'methods'? (line "),
        ({"train": {"betta": 0.1}}, "Unknown key in r.yaml: 'train.betta': did you mean 'train.beta'?"),
        ({"betta": 0.1}, "Unknown key in r.yaml: 'betta': did you mean 'train.beta'?"),
        ({"learning_rate": 0.1}, "Unknown key in r.yaml: 'learning_rate': did you mean 'tune.learning_rates'?"),
        ({"train": {"lora": {"rr": 1}}}, "Unknown key in r.yaml: 'train.lora.rr': did you mean 'train.lora.r'?"),
        (
            {"variants": {"x": {"methd": "dpo"}}},
            "Unknown key in r.yaml: 'variants.x.methd': did you mean 'variants.x.method'?",
        ),
        (
            {"judge": {"model": "m", "timeot": 1}},
            "Unknown key in r.yaml: 'judge.timeot': did you mean 'judge.",
        ),
        (
            {"benchmarks": ["preference"]},
            "In r.yaml, key 'benchmarks': a list stands where a mapping is",
        ),
        (
            {"train": {"lora": ["\r\n", "", "r"]}},
            "In r.yaml, key 'train.lora': a list stands where a mapping is expected: write "
            "{'\\r\\n': {}, '': {}, r: {}}",
        ),
        ({"benchmarks": {"mmlu": None}}, "In r.yaml, key 'benchmarks.mmlu': it is empty: write a mapping"),
        ({"seeds": [0, 1]}, "In r.yaml, key 'seeds': it is how many seeds are run: seeds: 2 runs the seeds 0 and 1"),
        ({"seeds": 10**9}, "In r.yaml, key 'seeds': 1000000000 is out of range: write a number of at most 1000"),
        ({"seeds": "1e9"}, "In r.yaml, key 'seeds': '1e9' is not a whole number"),
        ({"seeds": True}, "In r.yaml, key 'seeds': YAML reads this as true, and a number is expected"),
        ({"name": False}, "In r.yaml, key 'name': YAML reads this as false, and a text is expected: put it in quotes"),
        ({"name": "x" * 300}, "In r.yaml, key 'name': it has 300 letters: write 100 at most"),
        ({"name": "a b"}, "In r.yaml, key 'name': 'a b' is no name"),
        ({"model": 7}, "In r.yaml, key 'model': YAML reads this as a number, and a text is expected"),
        ({"model": "m" * 300}, "In r.yaml, key 'model': 'mmmm"),
        ({"methods": "dpo"}, "In r.yaml, key 'methods': a list is expected: write [dpo]"),
        ({"methods": "dpo\nsft"}, "In r.yaml, key 'methods': a list is expected: write ['dpo\\nsft']"),
        ({"methods": []}, "In r.yaml, key 'methods': it is empty"),
        (
            {"precision": "bf-16"},
            "In r.yaml, key 'precision': 'bf-16' is none of float32, bf16-mixed, bf16: did",
        ),
        (
            {"judge": {"model": "m", "max_cost": 5}},
            "In r.yaml, key 'judge': max_cost needs the prices: set price_in and price_out",
        ),
        (
            {"judge": {"model": "m", "base_url": "localhost:9"}},
            "In r.yaml, key 'judge.base_url': 'localhost:9' is no address: begin it with http:// or https://",
        ),
        ({"budget": ["a", "b"]}, "In r.yaml, key 'budget': it names one: write one here, and run the command once for"),
        ({"judge": "gpt-4"}, "In r.yaml, key 'judge': it is local (the start policy judges mini sets), or a model"),
        ({"budget": "pairs-17"}, "In r.yaml, key 'budget': budget 'pairs-17' is not one of budgets"),
        ({"method_options": {"dppo": {}}}, "In r.yaml, key 'method_options': dppo is not one of methods"),
        ({"tune": None}, "In r.yaml, key 'tune': it is missing: add it, such as {learning_rates"),
        ({"tune": {"learning_rates": ["x"]}}, "In r.yaml, key 'tune.learning_rates[1]': 'x' is not a number"),
        ({"prices": {"device_hour": 1e308}}, "In r.yaml, key 'prices.device_hour': 1e+308 is out of range: write a"),
        ({"prices": {"currency": "x" * 99}}, "In r.yaml, key 'prices.currency': it has 99 letters: write 20 at most"),
        (
            {"time_limit": 1e300},
            "In r.yaml, key 'time_limit': 1e+300 is out of range: write a number of at most",
        ),
        ({"description": "x" * 9999}, "In r.yaml, key 'description': it has 9999 letters: write 2000 at most"),
        ({"methods": ["dpo"] * 1001}, "In r.yaml, key 'methods': it has 1,001 entries: write 1,000 at most"),
        ({"generation_batch_size": 10**15}, "In r.yaml, key 'generation_batch_size': 1000000000000000 is out of range"),
        ({"judge": {"model": "m", "timeout": 1e300}}, "In r.yaml, key 'judge.timeout': 1e+300 is out of range: write"),
        ({"prices": {"device_hour": float("inf")}}, "In r.yaml, key 'prices.device_hour': inf is no finite number"),
        ({"tune": {"learning_rates": [float("nan")]}}, "In r.yaml, key 'tune.learning_rates[1]': nan is no finite"),
        (
            {"data": {"train": "a", "tune_prompts": 1, "eval_prompts": 1}},
            "Unknown key in r.yaml: 'data.train': it",
        ),
        (
            {"data": {"task": "preference"}},
            "In r.yaml, key 'data.task': 'preference' is none of constraints,",
        ),
    ],
)
def test_a_mistake_is_one_plain_sentence_with_its_line(tmp_path: Path, changes: dict[str, Any], start: str) -> None:
    sentences = faults(tmp_path, changed(**changes))
    assert len(sentences) == 1, sentences
    assert sentences[0].startswith(start)
    assert not any(words in sentences[0] for words in PYDANTIC)
    missing = next(iter(changes.values())) is None and len(changes) == 1
    assert missing or "(line " in sentences[0]


def test_the_line_is_that_of_the_key(tmp_path: Path) -> None:
    lines = TINY.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("  samples:"))
    lines[place] = "  samples: 1"
    assert faults(tmp_path, "\n".join(lines))[0].endswith(f"(line {place + 1})")


def test_everything_wrong_is_named_at_once(tmp_path: Path) -> None:
    """Also what pydantic alone would only find once the rest is corrected, and nothing that is right."""
    text = changed(
        name="a b",
        train={"betta": 1, "batch_size": 0},
        tune={"learning_rates": [-1.0]},
        budget="huge",
        method_options={"dppo": {}},
        endpoints={"e": {"model": "m", "max_cost": 3, "extra_body": {"n": 2}}},
    )
    sentences = faults(tmp_path, text)
    named = (
        *("'train.betta'", "key 'name'", "key 'train.batch_size'", "key 'tune.learning_rates[1]'", "key 'budget'"),
        *("key 'method_options'", "key 'endpoints.e.extra_body'", "key 'endpoints.e': max_cost"),
    )
    assert len(sentences) == len(named)
    for words in named:
        assert sum(words in sentence for sentence in sentences) == 1, words


def test_a_key_that_stands_twice_is_refused_at_any_depth(tmp_path: Path) -> None:
    text = TINY.replace("samples: 4", "samples: 4\n  samples: 2") + "seeds: 1\nseeds: 2\n"
    lines = text.splitlines()
    first, second = (i + 1 for i, line in enumerate(lines) if line.startswith("  samples:"))
    assert faults(tmp_path, text) == [
        f"In r.yaml, the key 'data.samples' stands on line {first} and again on line {second}: keep one of them",
        f"In r.yaml, the key 'seeds' stands on line {len(lines) - 1} and again on line {len(lines)}: keep one of them",
    ]


def test_merged_keys_may_be_written_over(tmp_path: Path) -> None:
    """The merge key of YAML is no second key, and an alias of a few values is no bomb."""
    shared = "options: &o {beta: 0.2}\n"
    text = TINY.replace("train: {", "train: {<<: {beta: 0.2, batch_size: 2}, ")
    assert faults(tmp_path, text) == []
    assert load_recipe(str(tmp_path / "r.yaml")).train.beta == 0.2
    assert load_recipe(str(tmp_path / "r.yaml")).train.batch_size == 4
    sentences = faults(tmp_path, TINY + shared)
    assert len(sentences) == 1 and "'options'" in sentences[0]


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("description: " + "[" * 2000 + "]" * 2000, "nested more than 32 levels deep"),
        ("x:\n" + "".join(f"{' ' * i}- \n" for i in range(1, 400)), "nested more than 32 levels deep"),
        ("a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 99)), "nested more than 32 levels"),
        (BOMB, "more than 50,000 values once its aliases are written out"),
        ("x: &x [*x]", "an alias names the value that it stands in"),
        ("y: 1" + "0" * 400, "is too large"),
        ("y: 1" + "0" * 5000, "has thousands of digits"),
        ("y: 0x" + "f" * 200_000, "has thousands of digits"),
        ("y: " + ":".join(["59"] * 50_000), "has thousands of digits"),
        ('y: "\\ud800"', "half of a surrogate pair"),
        ("y: !!python/object:os.system z", "cannot be read as YAML"),
        ("? [a]: b\n: c", "cannot be read as YAML"),
        ("variants: {7: {method: dpo}}", "the key 'variants.7' is read as a number"),
        ("# " + "x" * 300_000, "more than 256 kB"),
    ],
)
def test_sizes_are_bounded(tmp_path: Path, more: str, words: str) -> None:
    before = time.process_time()
    sentences = faults(tmp_path, TINY + more + "\n")
    assert len(sentences) == 1, sentences
    assert words in sentences[0]
    assert len(sentences[0].splitlines()) == 1
    assert len(sentences[0]) < 500
    assert time.process_time() - before < 5


def test_a_key_stays_on_the_line_of_its_sentence(tmp_path: Path) -> None:
    sentences = faults(tmp_path, TINY + '"a\\r\\nb\\ud800": 1\n')
    assert any("key 'a b" in sentence for sentence in sentences)
    assert all(len(sentence.splitlines()) == 1 for sentence in sentences)


FULL: dict[str, Any] = yaml.safe_load(TINY) | {
    "budgets": {"b": {"axis": "pairs", "limit": 16, "caps": {"seconds": 9}}},
    "budget": "b",
    "variants": {"v": {"method": "dpo", "options": {"beta": 0.2}}},
    "endpoints": {"e": {"model": "m", "extra_body": {"top_k": 1}}},
    "judge": {"model": "m", "timeout": 3.0},
    "eval_oracle": {"name": "llm_judge", "options": {"model": "m"}},
    "prices": {"device_hour": 1.5},
    "chat_date": "2025-01-01",
}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.just(10**30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a recipe."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (*above, key)
        yield from places(below, (*above, key))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(places(FULL), key=str)), JUNK, st.booleans()), min_size=1, max_size=3))
def test_whatever_stands_in_a_recipe_it_loads_or_is_refused_in_our_words(changes: list[tuple[Any, Any, bool]]) -> None:
    """A value is replaced, or a key is put beside it."""
    recipe = deepcopy(FULL)
    for place, junk, beside in changes:
        holder: Any = recipe
        try:
            for part in place[:-1]:
                holder = holder[part]
            holder[f"{place[-1]}x" if beside and isinstance(holder, dict) else place[-1]] = junk
        except (TypeError, KeyError, IndexError):  # an earlier change took the place away
            continue
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.yaml"
        path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        try:
            loaded = load_recipe(str(path))
        except UserError as error:
            for sentence in error.sentences:
                assert not any(words in sentence for words in PYDANTIC), sentence
                assert len(sentence) < 2000
        else:
            assert Recipe.model_validate(loaded.model_dump(mode="json")).hash == loaded.hash


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "empty.yaml").write_text("")
    for name, words in {
        "folder.yaml": "is no file",
        "empty.yaml": "is empty",
        "x" * 300 + ".yaml": "cannot be",
    }.items():
        with pytest.raises(UserError, match=words) as caught:
            load_recipe(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_paths_may_be_relative_to_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path in the working directory stays as it is, and the hash with it; what could be either is refused."""
    folder = tmp_path / "recipes"
    (folder / "model").mkdir(parents=True)
    (folder / "template.jinja").write_text("x")
    text = changed(model="model", chat_template="template.jinja")
    monkeypatch.chdir(tmp_path)
    assert faults(folder, text) == []
    recipe = load_recipe("recipes/r.yaml")
    assert (recipe.model, recipe.chat_template) == ("recipes/model", "recipes/template.jinja")
    (tmp_path / "model").mkdir()
    assert "lies in the working directory and beside the recipe" in faults(folder, text)[0]
    monkeypatch.chdir(folder)
    assert load_recipe("r.yaml").model == "model"
    assert "'model': template.jinja is a file" in faults(folder, changed(model="template.jinja"))[0]
    assert "'chat_template': model is a folder" in faults(folder, changed(chat_template="model"))[0]


HASHES = {
    "llama3-8b-ultrafeedback-local-judge": "6b472fd95d216aba",
    "llama3-8b-ultrafeedback": "7f235f98f7bea384",
    "qwen-0.5b-safe-local-judge": "1d9b1568e5a3e0fb",
    "qwen-0.5b-safe": "b440a37f045fd4de",
    "smollm2": "1ccd42145ed2e84d",
    "tiny": "59c0c81c620e0d02",
    "zephyr-7b-ultrafeedback-local-judge": "16ec66e8ec7eba1d",
    "zephyr-7b-ultrafeedback": "753166bc535a9c5a",
    "examples/official.yaml": "7e562add317d8faf",
    "examples/ultrafeedback.yaml": "f7c2b04c1adf4b95",
    "results/studies/axes.yaml": "d7a4cd7558094003",
    "results/studies/defaults.yaml": "cf721d3df9b5d372",
    "results/studies/t1-coefficient.yaml": "ead0dcd034893def",
}
"""Computed before recipes were checked in this way."""


@pytest.mark.parametrize("name", HASHES)
def test_hashes_of_recipes_are_what_they_were(name: str) -> None:
    recipe = load_recipe(str(ROOT / name) if name.endswith(".yaml") else name)
    assert recipe.hash == HASHES[name]
    assert Recipe.model_validate(recipe.model_dump(mode="json")).hash == recipe.hash
