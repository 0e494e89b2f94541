"""MMLU, ARC-Challenge and other tasks of lm-eval against plain lm-eval, item by item, on questions of our own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.questions import SUBJECTS, Writer, any_task, context, policy, write_data, write_splits

pytest.importorskip("lm_eval", reason="lm-eval is not installed (the extra lm-eval)")

import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from benchmarks.lmeval import ARC0, ARC25, MMLU5, ARC0Chat, ARC25Chat, LMEval, MMLU5Chat, tasks
from harness.benchmark import benchmark_result
from harness.errors import UserError
from harness.recipe.load import builtin_recipes
from harness.report.subjects import _cell
from harness.score.results import read_result
from harness.store.row_cache import RowCache


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


def plain(benchmark: LMEval, model: Any, tokenizer: Any, samples: Any = None, **more: Any) -> dict[str, Any]:
    """Plain lm-eval: its model class on tasks that were built apart."""
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3)
    index = TaskManager(include_defaults=False)
    more |= {"samples": samples, "bootstrap_iters": 200, "task_manager": index}
    results: dict[str, Any] = simple_evaluate(lm, tasks=benchmark.tasks(), num_fewshot=benchmark.shots, **more)
    return results


def equal(rows: list[dict[str, Any]], results: dict[str, Any], atol: float = 1e-4) -> None:
    """Prompts (by hash), metrics and log-likelihoods, item by item."""
    ours = {(r["task"], r["doc_id"], r["filter"]): r for r in rows}
    theirs = {(t, s["doc_id"], s["filter"]): s for t, samples in results["samples"].items() for s in samples}
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


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in (ARC25, ARC25Chat)]


@pytest.mark.parametrize("kind", [MMLU5, MMLU5Chat, *SLOW, ARC0, ARC0Chat])
def test_protocols_equal_plain_lm_eval(kind: type[LMEval], data: Path, model: Any, tokenizer: Any) -> None:
    benchmark = kind()
    rows = benchmark.answer(context(policy(model, tokenizer)))
    chat = {"apply_chat_template": benchmark.chat, "fewshot_as_multiturn": benchmark.chat}
    theirs = plain(benchmark, model, tokenizer, **chat)
    equal(rows, theirs)
    scored = benchmark_result(benchmark, json.loads(json.dumps(rows)), benchmark.protocol(), None)
    sizes = {name: n["effective"] for name, n in theirs["n-samples"].items()}
    for name, total in ((m.name, sum(sizes.values())) for m in scored.metrics):
        whole = sum(theirs["results"][t][f"{name},none"] * n for t, n in sizes.items()) / total
        assert scored.metric(name).value == pytest.approx(100 * whole, abs=1e-5)
        assert scored.metric(name).n_valid == total
    if kind is MMLU5:  # the standard errors that SUBJECTS.md shows
        for task in sizes:
            own = np.array([v for v, r in zip(scored.items["items"]["acc"], rows, strict=True) if r["task"] == task])
            assert f"± {100 * theirs['results'][task]['acc_stderr,none']:.1f}" in _cell(own)
    assert [m.name for m in scored.metrics if m.primary] == [kind.main]
    assert scored.label == f"{total} of {'14,042' if isinstance(benchmark, MMLU5) else '1,172'}"


@pytest.mark.slow
def test_the_hub_and_a_folder_give_the_same_prompts(
    data: Path, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lm-eval's registered tasks, loading by themselves, against ours from files; ours asks for the pinned revision."""
    from benchmarks.lmeval.tasks import dataset_loader

    local = {"cais/mmlu": MMLU5.source.local(), "allenai/ai2_arc": {"ARC-Challenge": ARC25.source.local()["default"]}}
    loaded: list[Any] = []

    def hub(path: str, name: str, **more: Any) -> Any:
        loaded.append((path, more.get("revision")))
        return dataset_loader(local[path][name])()

    monkeypatch.setattr("datasets.load_dataset", hub)
    monkeypatch.setattr("harness.store.hub.answers", lambda: True)
    for kind, names in ((MMLU5, [f"mmlu_{s}" for s in SUBJECTS]), (ARC25, ["arc_challenge"])):
        benchmark = kind()
        rows = benchmark.answer(context(policy(model, tokenizer)))
        manager = TaskManager(include_defaults=False, include_path=benchmark.definitions()[names[0]].parent)
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3)
        equal(rows, simple_evaluate(lm, tasks=names, num_fewshot=kind.shots, task_manager=manager))
    loaded.clear()
    before = ARC25().protocol()
    monkeypatch.delenv("SAIL_BENCH_DATA_DIR")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert [s["doc_hash"] for s in ARC25().answer(context(policy(model, tokenizer)))] == [r["doc_hash"] for r in rows]
    assert loaded == [("allenai/ai2_arc", ARC25.source.revision)]
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
        theirs = plain(benchmark, model, tokenizer, {task: sorted({r["doc_id"] for r in rows})} if limit else None)
        equal(rows, theirs)
        scored = benchmark_result(benchmark, json.loads(json.dumps(rows)), benchmark.protocol(), None)
        for m in scored.metrics:
            name, _, how = m.name.partition(",")
            expected = theirs["results"][task][f"{name},{how or 'none'}"]
            assert m.value == pytest.approx(expected * (100 if "percent" in m.estimator.kind else 1), rel=1e-4), m.name
            assert m.better == (-1 if "perplexity" in name else 1)
        assert benchmark.protocol()["benchmark"] == f"lm_eval:{task}"


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
    """Rules that need no data of NLTK. For a rule that does, a sentence says so; the answers are kept, so that the same
    answers are scored once the rule is gone."""
    monkeypatch.setattr("nltk.download", lambda name: False)
    monkeypatch.setattr("nltk.data.path", [])
    say = Writer(5)

    def item(key: int, rule: str, **settings: Any) -> dict[str, Any]:
        given = {"num_words": None, "relation": None, "num_sentences": None} | settings
        return {"key": key, "prompt": say(3, 9), "instruction_id_list": [rule], "kwargs": [given]}

    rules = ["punctuation:no_comma", "change_case:english_lowercase", "startend:quotation"]
    items = [item(i, rule) for i, rule in enumerate(rules)]
    items.append(item(3, "length_constraints:number_words", num_words=2, relation="at least"))
    write_splits(data, "ifeval", {"train": items})
    with pytest.raises(UserError, match="answers of up to 1280 tokens, but the model takes 512"):
        any_task("ifeval").answer(context(policy(short, tokenizer)))
    short.config.max_position_embeddings = 1380
    kept = RowCache(tmp_path / "rows.sqlite")
    with_sentences = [*items, item(4, "length_constraints:number_sentences", num_sentences=2, relation="at least")]
    write_splits(data, "ifeval", {"train": with_sentences})
    with pytest.raises(UserError, match=r"needs NLTK's punkt\w*: run python -m nltk.downloader punkt"):
        any_task("ifeval").answer(context(policy(short, tokenizer, kept)))
    write_splits(data, "ifeval", {"train": items})
    benchmark, again = any_task("ifeval"), policy(short, tokenizer, kept)
    rows = benchmark.answer(context(again))
    assert again.meter.ledger.get("generate", "tokens") == 0
    lm = HFLM(pretrained=short, tokenizer=tokenizer, batch_size=4)
    index = TaskManager(include_defaults=False)
    theirs = simple_evaluate(lm, tasks=benchmark.tasks(), task_manager=index, bootstrap_iters=0)
    equal(rows, theirs)
    scored = benchmark_result(benchmark, json.loads(json.dumps(rows)), benchmark.protocol(), None)
    for m in scored.metrics:
        scale = 100 if "percent" in m.estimator.kind else 1
        assert m.value == pytest.approx(scale * theirs["results"]["ifeval"][f"{m.name},none"])
    assert next(m.name for m in scored.metrics) == "prompt_level_strict_acc"


def test_prompts_that_are_cut_are_counted(
    data: Path, short: Any, tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against the lengths of plain lm-eval's prompts, drawn and whole."""
    short.config.max_position_embeddings = 632
    samples_by_task = plain(MMLU5(), short, tokenizer)["samples"]
    prompts = {(t, s["doc_id"]): s["arguments"] for t, samples in samples_by_task.items() for s in samples}
    lengths = {k: max(len(tokenizer.encode("".join(a))) for a in v) for k, v in prompts.items()}
    for limit in (0, 9):
        rows = MMLU5(MMLU5.Options.model_validate({"limit": limit})).answer(context(policy(short, tokenizer)))
        cut = {(r["task"], r["doc_id"]): r.get("cut", 0) for r in rows}
        assert cut == {key: max(0, lengths[key] - 633) for key in cut}
        over = sum(n > 0 for n in cut.values())
        assert 0 < over < len(rows)
        assert f"{over} items have a prompt longer than the model's 632 tokens" in capsys.readouterr().out


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
    folder = tmp_path / "results/local/known/pairs-16"
    result = read_result(folder / "dpo/seed-0.json")
    assert [b.benchmark for b in result.benchmarks] == sorted(tiny["benchmarks"])
    page = (folder / "LEADERBOARD.md").read_text()
    assert "MMLU 5-shot (9 of 14,042, drawn by subject, v" in page
    assert "(SUBJECTS.md)" in page
    items = result.benchmarks[-1].items["items"]
    table = (folder / "SUBJECTS.md").read_text()
    for subject in SUBJECTS:
        own = [v for v, s in zip(items["acc"], items["subject"], strict=True) if s == subject]
        row = next(line for line in table.split("\n") if line.startswith(f"| {subject} |"))
        error = 100 * np.std(own, ddof=1) / len(own) ** 0.5 if len(own) > 1 else None
        cell = f"{100 * np.mean(own):.1f} ± {'n/a' if error is None else f'{error:.1f}'}"
        assert row.split(" | ")[-1].removesuffix(" |") == cell
    assert cli("leaderboard", "known", "--check", cwd=tmp_path).returncode == 0
