"""What stands in the way of a comparison is reported before any work, all of it at once, each with its fix."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kit.command import Cli, tiny_recipe, write_tiny
from kit.scripted_endpoint import Scripted, completion, scripted_endpoint

from harness.answer.endpoint_check import endpoint_problems
from harness.answer.model_files import model_problems, template_problems
from harness.answer.start_policy import start_stage
from harness.errors import AbsentError, Problem, Problems, UserError
from harness.recipe.endpoint import Endpoint
from harness.recipe.recipe import Recipe
from harness.run.compare import CompareOptions
from harness.run.preflight import preflight
from harness.store.settings import Settings, using

KEY = "sk-a-key-of-nobody"


def problems_of(recipe: Recipe, tmp_path: Path) -> list[Problem]:
    """Those of a recipe with nothing done."""
    return list(CompareOptions(recipe, store=tmp_path / "store").look().problems)


def saved_model(folder: Path, template: str | None = "{{ messages }}", **config: Any) -> Path:
    """Files of a model as save_pretrained leaves them; the weights are empty."""
    folder.mkdir(parents=True)
    sizes = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "max_position_embeddings": 4096}
    heads = {"num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 10}
    (folder / "config.json").write_text(json.dumps(sizes | heads | config))
    (folder / "tokenizer_config.json").write_text(json.dumps({} if template is None else {"chat_template": template}))
    (folder / "model.safetensors").touch()
    return folder


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_all_at_once(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven parts that lack something: all are named, nothing is made, no traceback; `plan` says the same."""
    monkeypatch.delenv("OPENAI_API_KEY")
    model = saved_model(tmp_path / "model", template=None)
    (model / "model.safetensors").unlink()
    recipe = write_tiny(
        tmp_path / "mine.yaml",
        model=str(model),
        methods=["start", "far"],
        reference="start",
        endpoints={"far": {"model": "far-1", "base_url": f"http://127.0.0.1:{closed_port()}/v1"}},
        benchmarks={"mt_bench_official": {}, "preference": {}},
        judge={"model": "judge-1"},
        eval_oracle={"name": "llm_judge", "options": {"model": "judge-2"}},
        engine="vllm",
    )
    monkeypatch.setattr("harness.answer.vllm_engine.find_spec", lambda name: None)
    for command in ("compare", "plan"):
        done = cli(command, recipe, cwd=tmp_path)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        expected = (
            "The benchmark mt_bench_official needs mt_bench/question.jsonl",
            f"{model} holds no weights (model.safetensors): copy them there, or set 'model:'",
            "The start policy's tokenizer has no chat template: save one with the model",
            "The recipe asks for engine: vllm, which is not installed: python -m pip install",
            "The model 'judge-2' needs a key: set the variable OPENAI_API_KEY",
            "The model 'judge-1' needs a key: set the variable OPENAI_API_KEY",
            "The endpoint of the model 'far-1' does not answer",
        )
        assert len(lines) == len(expected), done.stderr
        for line, words in zip(lines, expected, strict=True):
            assert line.startswith(f"Error: {words}") and line.endswith(".") and not line.endswith("..")
        assert not (tmp_path / ".sail-bench").exists()


def test_one_problem_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    port = closed_port()
    judge = {"model": "m", "base_url": f"http://user:word@127.0.0.1:{port}/v1"}
    recipe = write_tiny(tmp_path / "mine.yaml", eval_oracle={"name": "llm_judge", "options": judge})
    done = cli("compare", recipe, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.strip().split("\n")
    assert line.startswith("Error: The endpoint of the model 'm' does not answer (")
    assert line.endswith(f": start it, or correct base_url (http://127.0.0.1:{port}/v1).")
    assert cli("plan", recipe, cwd=tmp_path).stderr.strip() == line
    assert cli("plan", recipe, "--no-preflight", cwd=tmp_path).returncode == 0
    assert cli("plan", recipe, "--machine", "h100", cwd=tmp_path).returncode == 0, "it is about another machine"


@contextmanager
def endpoint_with(models: list[str] | None, status: int = 200, words: str = "") -> Iterator[tuple[Endpoint, list[Any]]]:
    """An endpoint that lists models (or does not know how), and refuses questions with a status; and what it got."""

    def answer(request: dict[str, Any]) -> Scripted:
        return Scripted(status, completion("a") if status == 200 else {"error": {"message": words}})

    listed = None if models is None else Scripted(200, {"data": [{"id": name} for name in models]})
    with scripted_endpoint(answer, listed) as server:
        yield Endpoint(model="m", base_url=server.url), server.requests


@pytest.mark.parametrize(
    ("models", "status", "words", "asked", "sentence"),
    [
        (None, 200, "", 0, ""),  # it has no list of models, which says nothing
        (["m", "n"], 200, "", 0, ""),
        (["n"], 200, "", 1, ""),  # a list need not be complete
        (["n"], 400, "max_tokens is too small", 1, ""),  # about the question
        (["n"], 404, f"no model m for {KEY}", 1, "refuses (status 404: no model m for ***)"),
        (["n"], 402, "no credit", 1, "refuses (status 402: no credit)"),
    ],
)
def test_an_endpoint_gets_one_small_question_at_most(
    models: list[str] | None, status: int, words: str, asked: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with endpoint_with(models, status, words) as (endpoint, requests):
        problems = endpoint_problems("judge", endpoint)
    assert [request["max_tokens"] for request in requests] == [1] * asked
    assert bool(problems) == bool(sentence)
    for problem in problems:
        assert sentence in problem.sentence
        assert problem.fix == "check model, base_url and OPENAI_API_KEY"


@pytest.mark.parametrize(("words", "count"), [("Incorrect API key", 1), ("Missing scopes: model.read", 0)])
def test_a_key_that_is_refused(words: str, count: int) -> None:
    """A key that may ask questions need not be allowed to list models."""
    refused = Scripted(401, {"error": {"message": words}})
    with scripted_endpoint(lambda request: Scripted(200, completion("a")), refused) as server:
        problems = endpoint_problems("judge", Endpoint(model="m", base_url=server.url))
    assert len(problems) == count and not server.requests


def test_files_of_a_model(tmp_path: Path) -> None:
    whole = saved_model(tmp_path / "whole")
    assert model_problems("model", "'model:'", str(whole)) == template_problems(str(whole)) == []
    (whole / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (whole / "model.safetensors.index.json").write_text(json.dumps(index))
    (whole / "model-1.safetensors").touch()
    (problem,) = model_problems("model", "'model:'", str(whole))
    assert "lacks 1 files of weights (model-2.safetensors)" in problem.sentence and "'model:'" in problem.fix
    bare = saved_model(tmp_path / "bare", template=None)
    assert [p.what for p in template_problems(str(bare))] == ["template"]
    (bare / "chat_template.jinja").write_text("{{ messages }}")
    assert template_problems(str(bare)) == []


def test_a_folder_that_is_no_model_is_one_problem(tmp_path: Path) -> None:
    """And is not looked for on the Hub; the start policy's own error is the same sentence."""
    for model, words in ((tmp_path, "holds no config.json"), (tmp_path / "none", "does not exist")):
        (problem,) = model_problems("model", "'model:'", str(model))
        with pytest.raises(UserError) as caught:
            start_stage(str(model))
        assert (problem.text, problem.absent) == (str(caught.value), False)
        assert words in problem.text


def test_an_adapter_has_the_files_of_its_base(tmp_path: Path) -> None:
    base = saved_model(tmp_path / "base", template=None)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    assert model_problems("model", "'model:'", str(adapter)) == []
    assert [p.what for p in template_problems(str(adapter))] == ["template"]


def test_a_model_of_the_hub_that_is_out_of_reach(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(tiny_recipe(model="org/absent"))
    with using(Settings(offline=True)):
        (problem,) = problems_of(recipe, tmp_path)
    assert problem.what == "model" and problem.absent
    assert problem.sentence.startswith("The configuration of org/absent cannot be read from the Hub")


def test_prompts_that_the_model_surely_cannot_hold(tiny_dir: Path, tmp_path: Path) -> None:
    """Positions of the model against the tokens of the longest prompt, counted by its own tokenizer."""
    from transformers import AutoTokenizer

    from benchmarks.mt_bench import MTBench

    tokenizer = AutoTokenizer.from_pretrained(tiny_dir)
    texts = MTBench().prompt_texts()
    longest = max(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
    positions = json.loads((tiny_dir / "config.json").read_text())["max_position_embeddings"]
    room = positions - longest
    for asked, count in ((room, 0), (room + 1, 1)):
        benchmarks = {"mt_bench": {"max_new_tokens": asked}}
        recipe = Recipe.model_validate(tiny_recipe(model=str(tiny_dir), benchmarks=benchmarks))
        problems = problems_of(recipe, tmp_path)
        assert len(problems) == count, problems
    assert problems[0].text == (
        f"The benchmark mt_bench asks for answers of up to {room + 1:,} tokens to prompts of up to {longest:,}, but "
        f"the model holds {positions:,}: lower benchmarks.mt_bench.max_new_tokens, or leave the benchmark out"
    )
    data = tiny_recipe()["data"] | {"max_new_tokens": positions}
    (problem,) = problems_of(Recipe.model_validate(tiny_recipe(model=str(tiny_dir), data=data)), tmp_path)
    assert (
        problem.sentence
        == f"data.max_new_tokens is {positions:,}, but the model holds {positions:,} tokens, the " + ("prompt included")
    )


def test_splits_of_a_task_of_lm_eval(tmp_path: Path) -> None:
    """Each task here reads its test or validation split, and examples even if it shows none."""
    pytest.importorskip("lm_eval")
    easy = {"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}
    rows = {"arc_easy": easy, "boolq": {"passage": "p", "question": "q", "label": 1}}
    for task, splits in (("arc_easy", ["test", "train"]), ("boolq", ["validation", "train"])):
        folder = tmp_path / "lm_eval" / task
        folder.mkdir(parents=True)
        recipe = Recipe.model_validate(tiny_recipe(benchmarks={f"lm_eval:{task}": {}}))
        for number in range(len(splits)):
            (folder / f"{splits[number]}.jsonl").write_text(json.dumps(rows[task]) + "\n")
            with using(Settings(data_dir=str(tmp_path), offline=True)):
                problems = problems_of(recipe, tmp_path / "store")
            missing = splits[number + 1 :]
            assert [p.text for p in problems] == [
                f"lm-eval's task {task} reads the splits {split}, which the data folder lacks: put "
                f"lm_eval/{task}/{split}.jsonl under --data-dir"
                for split in missing
            ]


class Settled:
    """Stands for a run with nothing to do, or with one thing."""

    def __init__(self, *todo: str) -> None:
        self.todo = list(todo)


def test_what_is_done_is_not_looked_at() -> None:
    """An endpoint that is down stops nobody who only wants the page again."""
    judge = {"name": "llm_judge", "options": {"model": "m", "base_url": f"http://127.0.0.1:{closed_port()}/v1"}}
    recipe = Recipe.model_validate(tiny_recipe(eval_oracle=judge))
    plans: Any = [Settled()]
    assert preflight(recipe, [], lambda: plans).problems == ()


def test_only_oracles_that_are_asked(tmp_path: Path) -> None:
    from harness.run.configure import make_benchmark
    from harness.run.preflight import _oracles_asked

    recipe = Recipe.model_validate(tiny_recipe(eval_oracle={"name": "llm_judge", "options": {"model": "m"}}))
    names = ["preference", "mmlu"]
    for todo, expected in (
        ({"mmlu"}, set()),
        ({"start", "mmlu"}, set()),
        ({"train", "mmlu"}, {"oracle"}),
        ({"trial lr=1", "preference"}, {"oracle", "eval_oracle"}),
        ({"preference against dpo"}, {"eval_oracle"}),
    ):
        made = [make_benchmark(recipe, name) for name in names if name in todo]
        assert set(_oracles_asked(recipe, names, todo, made)) == expected


def test_a_check_that_breaks_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a plugin, say; the others are still looked at. One of an earlier version returns nothing."""
    recipe = Recipe.model_validate(tiny_recipe(judge={"model": "m"}))

    def broken(self: object) -> list[Problem]:
        raise RuntimeError("half written")

    monkeypatch.setattr("harness.oracles.constraints.ConstraintOracle.ready", broken)
    (problem,) = problems_of(recipe, tmp_path)
    assert problem.sentence == "The check of oracle failed (RuntimeError: half written)"
    monkeypatch.setattr("harness.oracles.constraints.ConstraintOracle.ready", lambda self: None)
    assert problems_of(recipe, tmp_path) == []


def test_errors_are_collected_once() -> None:
    problems = Problems()
    for what in ("a", "b"):
        with problems.of(what):
            raise AbsentError("It is not here: fetch it.")
    assert problems.all == [Problem("a", "It is not here: fetch it", "", True)]
    with pytest.raises(AbsentError, match="It is not here: fetch it$"):
        problems.check()
    problems.add([Problem("c", "It is wrong", "change it")])
    with pytest.raises(UserError, match="^It is not here: fetch it\nIt is wrong: change it$") as two:
        problems.check()
    assert not isinstance(two.value, AbsentError) and len(two.value.problems) == 2
