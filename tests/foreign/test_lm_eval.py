"""MMLU, ARC-Challenge and other tasks of lm-eval against lm-eval's own model class, item by item."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import GOLDEN, golden

pytest.importorskip("lm_eval", reason="lm-eval is not installed (the extra lm-eval)")

import torch
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from benchmarks.lmeval import ARC0, ARC25, MMLU5, AnyTask, ARC0Chat, ARC25Chat, LMEval, MMLU5Chat, tasks
from benchmarks.lmeval.model import PolicyLM
from benchmarks.shared.subset import draw_subset
from harness.answer.continuations import prompt_families
from harness.answer.policy import Policy
from harness.benchmark import EvalContext, benchmark_result
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.errors import UserError
from harness.judge.local import LocalJudge
from harness.oracles.constraints import ConstraintOracle
from harness.oracles.metered import MeteredOracle
from harness.recipe.load import builtin_recipes
from harness.report.subjects import _cell
from harness.score.results import read_result
from harness.store.row_cache import RowCache

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
SUBJECTS = ("anatomy", "virology", "world_religions")


class Writer:
    """Text of random words, by a seed."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)

    def __call__(self, low: int, high: int) -> str:
        return " ".join(self.rng.choice(WORDS) for _ in range(self.rng.randint(low, high)))


def policy(model: Any, tokenizer: Any, cache: RowCache | None = None) -> Policy:
    return Policy(model, tokenizer, "p", meter=Meter(Ledger()), cache=cache)


def context(asked: Policy) -> EvalContext:
    return EvalContext(asked, asked, LocalJudge(asked), MeteredOracle(ConstraintOracle(), Ledger()), [], [], 5)


def instances(kind: str, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(kind, {}, a, i, metadata=("t", i, 1)) for i, a in enumerate(arguments)]


@pytest.fixture
def model(load: Callable[[], Any]) -> Any:
    return load()


@pytest.fixture
def short(model: Any) -> Any:
    """The model, said to take 512 tokens."""
    model.config.max_position_embeddings = 512
    return model


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Questions of our own in the layout that --data-dir has."""
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path / "official"))
    return write_data(tmp_path / "official")


def write_data(folder: Path) -> Path:
    say = Writer()

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")

    def mmlu(subject: str, count: int) -> list[dict[str, Any]]:
        return [
            {
                "subject": subject,
                "question": f" {say(2, 9)}?\u2028",
                "choices": [say(1, 3) for _ in "ABCD"],
                "answer": i % 4,
            }
            for i in range(count)
        ]

    def arc(count: int) -> list[dict[str, Any]]:
        rows = []
        for i in range(count):
            choices = [say(1, 4) for _ in range(3 + i % 3)]
            rows.append({"id": None, "question": say(3, 9), "choices": choices, "answer": i % 3})
        return rows

    write("mmlu/test.jsonl", [r for i, s in enumerate(SUBJECTS) for r in mmlu(s, 4 + 3 * i)])
    write("mmlu/dev.jsonl", [r for s in SUBJECTS for r in mmlu(s, 5)])
    write("arc_challenge/train.jsonl", arc(30))
    write("arc_challenge/test.jsonl", arc(4))
    return folder


def plain(benchmark: LMEval, model: Any, tokenizer: Any, samples: Any = None, **more: Any) -> dict[str, Any]:
    """Plain lm-eval: its model class on tasks that were built apart."""
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3)
    index = TaskManager(include_defaults=False)
    more |= {"samples": samples, "bootstrap_iters": 200, "task_manager": index}
    found: dict[str, Any] = simple_evaluate(lm, tasks=benchmark.tasks(), num_fewshot=benchmark.shots, **more)
    return found


def equal(rows: list[dict[str, Any]], found: dict[str, Any], atol: float = 1e-4) -> None:
    """Prompts (by hash), metrics and log-likelihoods, item by item."""
    ours = {(r["task"], r["doc_id"], r["filter"]): r for r in rows}
    theirs = {(t, s["doc_id"], s["filter"]): s for t, samples in found["samples"].items() for s in samples}
    assert ours.keys() == theirs.keys()
    for key, s in theirs.items():
        assert ours[key]["prompt_hash"] == s["prompt_hash"][:16], key
        for name in s["metrics"]:
            np.testing.assert_allclose(ours[key]["metrics"][name], s[name], atol=atol, err_msg=str(key))
        for mine, other in zip(ours[key]["resps"], s["filtered_resps"], strict=True):
            if isinstance(other, tuple):
                assert mine[0] == pytest.approx(other[0], abs=atol)
                assert mine[1] == other[1]
            else:
                assert mine == pytest.approx(other, abs=1e-2) if isinstance(other, float) else mine == other


def asked_pairs() -> list[tuple[str, str]]:
    """Letters after shared examples, options of several tokens, trailing spaces, no context, too long a context."""
    say = Writer(1)
    pairs = []
    for _ in range(3):
        shots = say(50, 60)
        pairs += [(f"{shots} {q}\nAnswer:", f" {o}") for q in (say(2, 9) for _ in range(7)) for o in "ABCD"]
    for _ in range(5):
        text = f"{say(5, 80)}\nAnswer: "
        pairs += [(text, say(1, 4)) for _ in range(4)]
    return [*pairs, ("", "hello there"), ("", "<|end|>x"), (say(120, 120), f" {say(3, 3)}"), (say(130, 130), say(9, 9))]


def test_loglikelihoods_equal_those_of_lm_eval(short: Any, tokenizer: Any, tmp_path: Path) -> None:
    model, requests = short, instances("loglikelihood", asked_pairs())
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8).loglikelihood(requests, disable_tqdm=True)
    kept = RowCache(tmp_path / "rows.sqlite")
    first = policy(model, tokenizer, kept)
    ours = PolicyLM(first, 6).loglikelihood(requests, disable_tqdm=True)
    np.testing.assert_allclose([v for v, _ in ours], [v for v, _ in theirs], atol=1e-4)
    assert [g for _, g in ours] == [g for _, g in theirs]
    spent = first.meter.ledger.get("reference", "tokens") + first.meter.ledger.get("generate", "tokens")
    whole = sum(min(512, len(tokenizer.encode("".join(r.args)))) for r in requests)
    assert spent < whole / 2  # what is shared is computed once
    again = policy(model, tokenizer, kept)
    assert PolicyLM(again, 6).loglikelihood(requests, disable_tqdm=True) == ours
    assert again.meter.ledger.entries == {}  # kept rows cost nothing


def test_a_window_is_not_widened_by_what_is_shared(tokenizer: Any) -> None:
    """Prompts of several lengths after a shared beginning, on layers that see 40 tokens."""
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = MistralConfig(vocab_size=len(tokenizer), sliding_window=40, initializer_range=0.3, **sizes, **heads)
    model, rng = MistralForCausalLM(config).eval(), random.Random(5)

    def ids(count: int) -> list[int]:
        return [rng.randrange(5, len(tokenizer)) for _ in range(count)]

    shots = ids(120)
    asked = [(None, p, ids(n)) for p in ([*shots, *ids(k)] for k in (3, 5, 25, 60)) for n in (1, 1, 3)]
    expected = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)._loglikelihood_tokens(asked, disable_tqdm=True)
    found = PolicyLM(policy(model, tokenizer), 8)._loglikelihood_tokens(asked)
    np.testing.assert_allclose([v for v, _ in found], [v for v, _ in expected], atol=1e-4)


def test_what_greedy_decoding_gives_is_known(model: Any, tokenizer: Any) -> None:
    prompt = tokenizer.encode("alpha beta")
    likely = model.generate(torch.tensor([prompt]), max_new_tokens=4, min_new_tokens=4, do_sample=False)[0].tolist()
    tail = likely[len(prompt) :]
    asked = [(None, prompt, tail[:n]) for n in (1, 2, 4)] + [(None, prompt, [*tail[:2], tail[2] ^ 1])]
    found = PolicyLM(policy(model, tokenizer), 2)._loglikelihood_tokens(asked)
    expected = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)._loglikelihood_tokens(asked, disable_tqdm=True)
    assert [g for _, g in found] == [g for _, g in expected] == [True, True, True, False]
    np.testing.assert_allclose([v for v, _ in found], [v for v, _ in expected], atol=1e-4)


def test_perplexities_and_answers_equal_those_of_lm_eval(short: Any, tokenizer: Any, tmp_path: Path) -> None:
    say, model = Writer(2), short
    theirs, kept = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3), RowCache(tmp_path / "rows.sqlite")
    ours = PolicyLM(policy(model, tokenizer, kept), 4)
    texts = instances("loglikelihood_rolling", [(say(n, n),) for n in (1, 40, 240)])  # the last needs two windows
    expected = theirs.loglikelihood_rolling(texts, disable_tqdm=True)
    assert ours.loglikelihood_rolling(texts, disable_tqdm=True) == pytest.approx(expected, rel=1e-6)
    settings: list[dict[str, Any]] = [{"until": ["a"], "max_gen_toks": 9}, {"until": [], "max_gen_toks": 5}]
    questions = instances("generate_until", [(say(1, 12), settings[i % 2]) for i in range(11)])
    expected = theirs.generate_until(questions, disable_tqdm=True)
    assert ours.generate_until(questions) == expected
    again = policy(model, tokenizer, kept)
    assert PolicyLM(again, 4).generate_until(questions) == expected
    assert again.meter.ledger.entries == {}


def test_families_share_what_is_worth_sharing() -> None:
    few = [(*range(100), 900 + i) for i in range(2)]  # saves 100 tokens: not worth a batch of its own
    many = [(*range(500, 600), 900 + i, *range(i)) for i in range(5)]
    found = prompt_families([*few, *many, (1, 2), *many])
    assert [(f.shared, sorted(f.prompts)) for f in found] == [(100, sorted(many)), (0, sorted([*few, (1, 2)]))]
    assert [len(p) for p in found[0].prompts] == sorted(len(p) for p in many)


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in (ARC25, ARC25Chat)]


@pytest.mark.parametrize("kind", [MMLU5, MMLU5Chat, *SLOW, ARC0, ARC0Chat])
def test_protocols_equal_plain_lm_eval(kind: type[LMEval], data: Path, model: Any, tokenizer: Any) -> None:
    benchmark = kind()
    rows = benchmark.answer(context(policy(model, tokenizer)))
    chat = {"apply_chat_template": benchmark.chat, "fewshot_as_multiturn": benchmark.chat}
    found = plain(benchmark, model, tokenizer, **chat)
    equal(rows, found)
    scored = benchmark_result(benchmark, json.loads(json.dumps(rows)), benchmark.protocol(), None)
    sizes = {name: n["effective"] for name, n in found["n-samples"].items()}
    for name, total in ((m.name, sum(sizes.values())) for m in scored.metrics):
        whole = sum(found["results"][t][f"{name},none"] * n for t, n in sizes.items()) / total
        assert scored.metric(name).value == pytest.approx(100 * whole, abs=1e-5)
        assert scored.metric(name).n_valid == total
    if kind is MMLU5:  # the standard errors that SUBJECTS.md shows
        for task in sizes:
            own = np.array([v for v, r in zip(scored.items["items"]["acc"], rows, strict=True) if r["task"] == task])
            assert f"± {100 * found['results'][task]['acc_stderr,none']:.1f}" in _cell(own)
    assert [m.name for m in scored.metrics if m.primary] == [kind.main]
    assert scored.label == f"{total} of {'14,042' if isinstance(benchmark, MMLU5) else '1,172'}"


@pytest.mark.slow
def test_the_hub_and_a_folder_give_the_same_prompts(
    data: Path, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lm-eval's registered tasks, loading by themselves, against ours from files; ours asks for the pinned revision."""
    from benchmarks.lmeval.tasks import dataset_loader

    local = {"cais/mmlu": MMLU5.source.local(), "allenai/ai2_arc": {"ARC-Challenge": ARC25.source.local()["default"]}}
    asked: list[Any] = []

    def hub(path: str, name: str, **more: Any) -> Any:
        asked.append((path, more.get("revision")))
        return dataset_loader(local[path][name])()

    monkeypatch.setattr("datasets.load_dataset", hub)
    for kind, names in ((MMLU5, [f"mmlu_{s}" for s in SUBJECTS]), (ARC25, ["arc_challenge"])):
        benchmark = kind()
        rows = benchmark.answer(context(policy(model, tokenizer)))
        manager = TaskManager(include_defaults=False, include_path=benchmark.definitions()[names[0]].parent)
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3)
        equal(rows, simple_evaluate(lm, tasks=names, num_fewshot=kind.shots, task_manager=manager))
    asked.clear()
    before = ARC25().protocol()
    monkeypatch.delenv("SAIL_BENCH_DATA_DIR")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert [s["doc_hash"] for s in ARC25().answer(context(policy(model, tokenizer)))] == [r["doc_hash"] for r in rows]
    assert asked == [("allenai/ai2_arc", ARC25.source.revision)]
    after = ARC25().protocol()
    assert {k for k in before if before[k] != after[k]} == {"data", "label"}
    assert ARC25().label == "official set"


def test_a_subset_is_drawn_by_subject(data: Path, model: Any, tokenizer: Any) -> None:
    benchmark = MMLU5(MMLU5.Options.model_validate({"limit": 9}))
    assert benchmark.label == "9 of 14,042, drawn by subject"
    rows = benchmark.answer(context(policy(model, tokenizer)))
    assert len(rows) == 9
    assert sum(r["weight"] for r in rows) == pytest.approx(21, abs=1e-4)
    chosen = {f"mmlu_{s}": [r["doc_id"] for r in rows if r["task"] == f"mmlu_{s}"] for s in SUBJECTS}
    equal(rows, plain(benchmark, model, tokenizer, chosen))
    scored = benchmark_result(benchmark, rows, benchmark.protocol(), None).metric("acc")
    sizes = {"mmlu_anatomy": 4, "mmlu_virology": 7, "mmlu_world_religions": 10}
    means = {t: np.mean([r["metrics"]["acc"] for r in rows if r["task"] == t]) for t in sizes}
    assert scored.value == pytest.approx(100 * sum(sizes[t] * means[t] for t in sizes) / 21, abs=1e-3)
    assert benchmark.protocol() != MMLU5().protocol()
    assert benchmark.protocol() != MMLU5(MMLU5.Options.model_validate({"limit": 9, "seed": 1})).protocol()


def test_subsets_are_proportional_nested_and_unbiased() -> None:
    sizes = {"a": 100, "b": 33, "c": 5, "d": 1}
    for limit in (4, 10, 50, 138, 139, 200):
        found = draw_subset(sizes, limit)
        assert sum(map(len, found.values())) == min(limit, 139)
        for name, places in found.items():
            assert places == sorted(set(places))
            assert set(places) <= set(range(sizes[name]))
            assert len(places) >= 1
            assert abs(len(places) - 1 - (limit - 4) * (sizes[name] - 1) / 135) < 1 or limit > 139
    assert set(draw_subset(sizes, 10)["a"]) <= set(draw_subset(sizes, 50)["a"])
    assert draw_subset(sizes, 50, 1)["a"] != draw_subset(sizes, 50)["a"]
    drawn = [i for seed in range(400) for i in draw_subset({"a": 20}, 5, seed)["a"]]
    assert np.bincount(drawn, minlength=20).min() > 60  # 100 expected, sd about 9
    with pytest.raises(UserError, match="4 subjects"):
        draw_subset(sizes, 3)


def any_task(name: str, **options: Any) -> LMEval:
    kind = AnyTask.member(name)
    return kind(kind.Options.model_validate(options))  # type: ignore[return-value]


@pytest.mark.slow
def test_any_task_by_its_name(data: Path, model: Any, tokenizer: Any) -> None:
    """Options that several are right, generation with two filters, and perplexity."""
    say = Writer(3)
    sets: dict[str, dict[str, list[dict[str, Any]]]] = {
        "truthfulqa_mc2": {"validation": [
            {"question": say(3, 6), "mc1_targets": {"choices": [say(1, 3), say(1, 3)], "labels": [1, 0]},
             "mc2_targets": {"choices": [say(1, 3) for _ in range(4)], "labels": [1, 1, 0, 0]}} for _ in range(5)]},
        "gsm8k": {split: [{"question": say(3, 6), "answer": f"{say(1, 3)} #### {i}"} for i in range(6)]
                  for split in ("train", "test")},
        "wikitext": {split: [{"page": say(20, 40)} for _ in range(3)] for split in ("train", "validation", "test")},
    }  # fmt: skip
    for task, splits in sets.items():
        write_splits(data, task, splits)
    for task, limit in (("truthfulqa_mc2", 0), ("gsm8k", 2), ("wikitext", 0)):
        benchmark = any_task(task, limit=limit)
        rows = benchmark.answer(context(policy(model, tokenizer)))
        found = plain(benchmark, model, tokenizer, {task: sorted({r["doc_id"] for r in rows})} if limit else None)
        equal(rows, found)
        scored = benchmark_result(benchmark, json.loads(json.dumps(rows)), benchmark.protocol(), None)
        for m in scored.metrics:
            name, _, how = m.name.partition(",")
            expected = found["results"][task][f"{name},{how or 'none'}"]
            assert m.value == pytest.approx(expected * (100 if "percent" in m.estimator.kind else 1), rel=1e-4), m.name
            assert m.better == (-1 if "perplexity" in name else 1)
        assert benchmark.protocol()["benchmark"] == f"lm_eval:{task}"


def write_splits(folder: Path, task: str, splits: dict[str, list[dict[str, Any]]]) -> None:
    for split, rows in splits.items():
        path = folder / "lm_eval" / task / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


@pytest.mark.slow
def test_options_that_a_task_shuffles_are_those_of_lm_eval(
    data: Path, model: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPQA shuffles its options by Python's global generator whenever its questions are read."""
    from datasets import Dataset, DatasetDict, load_from_disk

    say, task = Writer(4), "gpqa_main_zeroshot"
    keys = ("Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
    splits = {"train": [{key: f"{say(2, 5)} {i}{n}" for n, key in enumerate(keys)} for i in range(12)]}
    write_splits(data, task, splits)
    DatasetDict({"train": Dataset.from_list(splits["train"])}).save_to_disk(tmp_path / "hub")
    rows = any_task(task).answer(context(policy(model, tokenizer)))
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: load_from_disk(tmp_path / "hub"))
    index = TaskManager(include_defaults=False, include_path=tasks.definition_file(task).parent)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3)
    equal(rows, simple_evaluate(lm, tasks=[task], task_manager=index, bootstrap_iters=0))
    assert len({r["target"] for r in rows}) > 1


@pytest.mark.slow
def test_ifeval_equals_plain_lm_eval(
    data: Path, short: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules that need no data of NLTK; a rule that does is told in a sentence."""
    monkeypatch.setattr("nltk.download", lambda name: False)
    monkeypatch.setattr("nltk.data.path", [])
    say = Writer(5)

    def item(key: int, rule: str, **settings: Any) -> dict[str, Any]:
        given = {"num_words": None, "relation": None, "num_sentences": None} | settings
        return {"key": key, "prompt": say(3, 9), "instruction_id_list": [rule], "kwargs": [given]}

    rules = ["punctuation:no_comma", "change_case:english_lowercase", "startend:quotation"]
    found = [item(i, rule) for i, rule in enumerate(rules)]
    found.append(item(3, "length_constraints:number_words", num_words=2, relation="at least"))
    write_splits(data, "ifeval", {"train": found})
    with pytest.raises(UserError, match="answers of up to 1280 tokens, but the model takes 512"):
        any_task("ifeval").answer(context(policy(short, tokenizer)))
    short.config.max_position_embeddings = 1380
    benchmark, kept = any_task("ifeval"), RowCache(tmp_path / "rows.sqlite")
    rows = benchmark.answer(context(policy(short, tokenizer, kept)))
    lm = HFLM(pretrained=short, tokenizer=tokenizer, batch_size=3)
    index = TaskManager(include_defaults=False)
    theirs = simple_evaluate(lm, tasks=benchmark.tasks(), task_manager=index, bootstrap_iters=0)
    equal(rows, theirs)
    scored = benchmark_result(benchmark, json.loads(json.dumps(rows)), benchmark.protocol(), None)
    for m in scored.metrics:
        scale = 100 if "percent" in m.estimator.kind else 1
        assert m.value == pytest.approx(scale * theirs["results"]["ifeval"][f"{m.name},none"])
    assert next(m.name for m in scored.metrics) == "prompt_level_strict_acc"
    found.append(item(4, "length_constraints:number_sentences", num_sentences=2, relation="at least"))
    write_splits(data, "ifeval", {"train": found})
    with pytest.raises(UserError, match=r"needs NLTK's punkt\w*: run python -m nltk.downloader punkt"):
        any_task("ifeval").answer(context(policy(short, tokenizer, kept)))


def test_local_files_that_do_not_fit_a_task_are_told(data: Path) -> None:
    write_splits(data, "truthfulqa_mc2", {"validation": [{"question": "x"}]})
    with pytest.raises(UserError, match="do not fit lm-eval's task truthfulqa_mc2"):
        any_task("truthfulqa_mc2").tasks()
    write_splits(data, "arc_easy", {"train": [{"question": "x"}]})
    with pytest.raises(UserError, match="do not fit lm-eval's task arc_easy"):
        any_task("arc_easy").tasks()
    write_splits(data, "arc_easy", {"train": [{"question": 2**70}]})
    with pytest.raises(UserError, match=r"do not fit lm-eval's task arc_easy \(OverflowError"):
        any_task("arc_easy").tasks()
    with pytest.raises(UserError, match="limit is 2, but there are 3 subjects"):
        MMLU5(MMLU5.Options.model_validate({"limit": 2})).protocol()


def test_lm_eval_that_is_not_installed_is_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(tasks, "version", none)
    for make in (lambda: MMLU5().protocol(), lambda: any_task("ifeval", revision="a" * 40).protocol()):
        with pytest.raises(UserError, match=r"python -m pip install 'sail-bench\[lm-eval\]'"):
            make()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: AnyTask().protocol(), "write lm_eval:TASK"),
        (lambda: any_task("truthfulqa_mc3").protocol(), "did you mean 'truthfulqa_mc2'"),
        (lambda: any_task("/etc/[x").protocol(), "Unknown task of lm-eval"),
        (lambda: any_task("mmlu").protocol(), "is a group of tasks"),
        (lambda: any_task("wikitext", revision="a" * 40).tasks(), "data of lm-eval's task wikitext cannot be read"),
        (lambda: any_task("ifeval").protocol(), "needs data: set its revision"),
        (lambda: MMLU5.member("x"), "is no family"),
        (lambda: MMLU5().protocol(), "give --data-dir with mmlu/test.jsonl"),
    ],
)
def test_what_is_wrong_is_told(
    make: Callable[[], Any], sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SAIL_BENCH_DATA_DIR", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=sentence):
        make()


def test_data_that_do_not_fit_are_told(data: Path) -> None:
    (data / "mmlu/dev.jsonl").unlink()
    with pytest.raises(UserError, match="lacks dev.jsonl"):
        MMLU5().protocol()


def test_prompts_that_are_cut_are_counted(
    data: Path, short: Any, tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against the lengths of plain lm-eval's prompts, drawn and whole."""
    short.config.max_position_embeddings = 632
    found = plain(MMLU5(), short, tokenizer)["samples"]
    prompts = {(t, s["doc_id"]): s["arguments"] for t, samples in found.items() for s in samples}
    lengths = {k: max(len(tokenizer.encode("".join(a))) for a in v) for k, v in prompts.items()}
    for limit in (0, 9):
        rows = MMLU5(MMLU5.Options.model_validate({"limit": limit})).answer(context(policy(short, tokenizer)))
        asked = {(r["task"], r["doc_id"]): r.get("cut", 0) for r in rows}
        assert asked == {key: max(0, lengths[key] - 633) for key in asked}
        over = sum(n > 0 for n in asked.values())
        assert 0 < over < len(rows)
        assert f"{over} items have a prompt longer than the model's 632 tokens" in capsys.readouterr().out
    texts = instances("generate_until", [(Writer()(n, n), {"until": [], "max_gen_toks": 40}) for n in (3, 200, 150)])
    short.config.max_position_embeddings = 512
    lm = PolicyLM(policy(short, tokenizer), 2)
    lm.generate_until(texts)
    lengths = {("t", i): len(tokenizer.encode(r.args[0])) for i, r in enumerate(texts)}
    assert lm.cut == {key: length + 40 - 512 for key, length in lengths.items() if length + 40 > 512}
    assert set(lm.cut) == {("t", 1), ("t", 2)}


def test_an_option_longer_than_the_window_is_told(short: Any, tokenizer: Any) -> None:
    lm = PolicyLM(policy(short, tokenizer), 2)
    lm.loglikelihood(instances("loglikelihood", [("a", "b" * 512)]), disable_tqdm=True)
    with pytest.raises(UserError, match="has 513 tokens, but the model takes 1 to 512: leave its question out"):
        lm.loglikelihood(instances("loglikelihood", [("a", "b" * 513)]), disable_tqdm=True)
    with pytest.raises(UserError, match="has 0 tokens"):
        lm.loglikelihood(instances("loglikelihood", [("a", "")]), disable_tqdm=True)


def test_definitions_hash_what_they_include(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("include: b.yaml\ntask: a\nprocess_docs: !function utils.f\n")
    (tmp_path / "b.yaml").write_text("task: b\n")
    (tmp_path / "utils.py").write_text("f = 1\n")
    seen = {tasks.definitions_hash([tmp_path / "a.yaml"])}
    for name in ("a.yaml", "b.yaml", "utils.py"):
        with (tmp_path / name).open("a") as file:
            file.write("# changed\n")
        seen.add(tasks.definitions_hash([tmp_path / "a.yaml"]))
    assert len(seen) == 4


@pytest.mark.slow
def test_a_comparison_with_subjects(data: Path, tmp_path: Path, cli: Any) -> None:
    tiny = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    tiny |= {"name": "known", "methods": ["start", "dpo"], "tune": {"learning_rates": [1e-3]}}
    tiny["benchmarks"] = {
        "mmlu_official": {"limit": 9},
        "arc_challenge_0shot": {},
        "lm_eval:arc_challenge": {"shots": 1},
    }
    write_splits(data, "arc_challenge", ARC25.source.local()["default"])
    (tmp_path / "known.yaml").write_text(yaml.safe_dump(tiny))
    done = cli("compare", "known.yaml", "--data-dir", data, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results/known/pairs-16"
    result = read_result(folder / "dpo/seed-0.json")
    assert [b.benchmark for b in result.benchmarks] == sorted(tiny["benchmarks"])
    page = (folder / "LEADERBOARD.md").read_text()
    assert "MMLU 5-shot (9 of 14,042, drawn by subject), acc %" in page
    assert "(SUBJECTS.md)" in page
    found = result.benchmarks[-1].items["items"]
    table = (folder / "SUBJECTS.md").read_text()
    for subject in SUBJECTS:
        own = [v for v, s in zip(found["acc"], found["subject"], strict=True) if s == subject]
        row = next(line for line in table.split("\n") if line.startswith(f"| {subject} |"))
        error = 100 * np.std(own, ddof=1) / len(own) ** 0.5 if len(own) > 1 else None
        told = f"{100 * np.mean(own):.1f} ± {'n/a' if error is None else f'{error:.1f}'}"
        assert row.split(" | ")[-1].removesuffix(" |") == told
    assert cli("leaderboard", "known", "--check", cwd=tmp_path).returncode == 0


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The embedded model and its tokenizer."""
    from harness.answer.load import load_model, load_tokenizer
    from harness.answer.smollm2 import smollm2_folder
    from harness.answer.start_policy import build_start
    from harness.store.stages import Store

    try:
        smollm2_folder()
    except UserError:
        pytest.skip("the embedded model is not installed")
    start = build_start("smollm2", Store(tmp_path_factory.mktemp("smollm2")))
    return load_model(start), load_tokenizer(start)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize(("part", "less"), [("mmlu", 3.0), ("arc0", 2.0), ("arc25", 3.0)])
def test_smollm2_on_the_official_items_equals_plain_lm_eval(
    part: str, less: float, smollm2: tuple[Any, Any], threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 items of each protocol; plain lm-eval takes nearly all of the time."""
    from tests.speed import lm_eval_speed as bench

    golden("mmlu", "dev.jsonl"), golden("arc_challenge", "train.jsonl")
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(GOLDEN))
    found = bench.side_by_side(bench.PARTS[part], policy(*smollm2), limit=30)
    assert found["items"] == 30
    assert found["prompts_that_differ"] == found["items_that_differ"] == 0
    assert found["ours"] == found["lm_eval"]
    assert found["greatest_gap"] < 1e-4
    assert found["flops_ratio"] > less
