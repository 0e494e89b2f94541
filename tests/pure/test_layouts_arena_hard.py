"""Arena-Hard's files: which baseline it is, their layouts, which set it is, and arbitrary values in each."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from conftest import golden
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.arena_files import Row, answered, judged, only, score_command, stored, win_rate
from kit.rows import write_rows

from benchmarks.arena_hard.official import ArenaHard01, ArenaHard20
from benchmarks.arena_hard.question_set import OFFICIAL, OFFICIAL_IDS, set_label
from benchmarks.arena_hard.score_files import score_judgment_files
from benchmarks.shared.score_report import score_tables
from harness.errors import UserError
from harness.score.bradley_terry import Version

# the baseline


def test_who_names_the_baseline(tmp_path: Path) -> None:
    plain = [judged("a", stored("B>A", "A>B")), judged("b", stored("B>A", "A>B"))]
    path = write_rows(tmp_path / "m.jsonl", plain)
    for arguments, name, source in (
        ((), "gpt-4-0314", "assumed: the rows name none"),
        (("--protocol", "v2.0"), "o3-mini-2025-01-31", "assumed: the rows name none"),
        (("--baseline", "phi"), "phi", "named by --baseline"),
    ):
        report, notes = score_command(path, *arguments)
        assert (report["protocol"]["baseline"], report["protocol"]["baseline_source"]) == (name, source)
        assert f"against {name} ({source.split()[0]}" in notes
    named = write_rows(tmp_path / "named.jsonl", [row | {"baseline": "phi"} for row in plain])
    for arguments in ((), ("--baseline", "phi")):
        report, _ = score_command(named, *arguments)
        assert (report["protocol"]["baseline"], report["protocol"]["baseline_source"]) == ("phi", "named in the rows")
    _, notes = score_command(named, "--baseline", "gpt-4-0314", code=2)
    assert "named.jsonl names the baseline phi: leave out --baseline gpt-4-0314" in notes
    mixed = write_rows(tmp_path / "mixed.jsonl", [plain[0] | {"baseline": "phi"}, plain[1]])
    _, notes = score_command(mixed, code=2)
    assert "mixes baselines (gpt-4-0314, phi)" in notes
    report, _ = score_command(mixed, "--baseline", "phi")
    assert report["protocol"]["baseline"] == "phi"


def test_a_judged_model_is_not_the_assumed_baseline(tmp_path: Path) -> None:
    rows = [judged(q, stored("B>A", "A>B"), model) for q in "ab" for model in ("m", "gpt-4-0314")]
    path = write_rows(tmp_path / "m.jsonl", rows)
    _, notes = score_command(path, code=2)
    assert "judges gpt-4-0314 itself" in notes
    assert "give --baseline" in notes
    report, _ = score_command(path, "--baseline", "phi")
    assert len(report["scores"]) == 2


def test_answers_are_checked_for_the_baseline(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "m.jsonl", [judged(q, stored("B>A", "A>>B")) for q in "ab"])
    answers = [answered(q, name, "x " * n, n) for q in "ab" for n, name in enumerate(("m", "phi"), 2)]
    file = write_rows(tmp_path / "answers.jsonl", answers)
    _, notes = score_command(path, "--answers", file)
    assert "no style-controlled score: the answers hold none of gpt-4-0314, the baseline (assumed" in notes
    report, _ = score_command(path, "--answers", file, "--baseline", "phi")
    assert "style_controlled" in only(report)["metrics"]
    _, notes = score_command(path, "--answers", file, "--baseline", "nobody", code=2)
    assert "holds no answers of --baseline nobody" in notes


# layouts


def battles_of(scores: list[float], question: str, model: str, baseline: str = "gpt-4-0314") -> list[Row]:
    """Rows of ``arena_hard_battles.jsonl``."""
    winners = {0: "model_a", 1: "model_b", 0.5: "tie"}
    return [{"question_id": question, "model_a": baseline, "model_b": model, "winner": winners[s]} for s in scores]


def test_published_battles_in_the_layout_of_upstream(tmp_path: Path) -> None:
    text = golden("arena_hard", "battles_official_v0.1.jsonl").read_text(encoding="utf-8")
    compact = [json.loads(line) for line in text.split("\n") if line]
    rows = [row for b in compact for row in battles_of(b["scores"], b["question_id"], b["model"])]
    report, notes = score_command(write_rows(tmp_path / "arena_hard_battles.jsonl", rows))
    published = {"gpt-4-0613": 37.90, "gpt-3.5-turbo-0125": 23.34}
    assert {r["model"]: pytest.approx(r["metrics"]["win_rate"]["value"], abs=0.005) for r in report["scores"]} == (
        published
    )
    assert all(r["official"] == pytest.approx(r["metrics"]["win_rate"]["value"]) for r in report["scores"])
    assert {(r["n_valid"], r["n_total"]) for r in report["scores"]} == {(500, 500)}
    assert (report["protocol"]["set"], report["protocol"]["baseline"]) == (OFFICIAL, "gpt-4-0314")
    assert report["protocol"]["baseline_source"] == "named in the rows"
    assert report["protocol"]["verdicts"]["read_from"] == "battles"
    assert "questions are counted instead of games" in notes


def test_battles_that_are_none(tmp_path: Path) -> None:
    good = battles_of([1, 0, 0], "a", "m") + battles_of([0.5], "b", "m")
    name = "arena_hard_battles.jsonl"
    report, _ = score_command(write_rows(tmp_path / name, good))
    assert win_rate(report) == pytest.approx(100 * 1.5 / 4)
    for row, sentence in (
        (good[0] | {"winner": "model_c"}, f"{name}, line 1: the key 'winner' holds 'model_c'"),
        (good[0] | {"model_b": None}, f"{name}, line 1: the key 'model_b' holds null: a text is expected"),
        ({"winner": "tie", "model_a": "x", "model_b": "m"}, "line 1: the key 'question_id' (or 'uid') is missing"),
        (good[0] | {"model_a": "phi"}, "mixes baselines (gpt-4-0314, phi)"),
    ):
        _, notes = score_command(write_rows(tmp_path / name, [row, *good[1:]]), code=2)
        assert sentence in notes
    _, notes = score_command(write_rows(tmp_path / name, good), "--protocol", "v2.0", code=2)
    assert "holds battles, which v0.1 writes" in notes
    report, notes = score_command(write_rows(tmp_path / name, [*battles_of([1] * 9, "a", "m"), *good[3:]]))
    assert "questions with more than 6 battles, that is judged repeatedly: 1" in notes


def test_answers_are_known_by_their_rows_or_by_their_file(tmp_path: Path) -> None:
    """The inner name first; a file that is called like the model where no row is."""
    path = write_rows(tmp_path / "judged.jsonl", [judged(q, stored("B>A", "A>>B"), "run-7") for q in "ab"])
    folder = tmp_path / "answers"
    for n, name in enumerate(("run-7", "gpt-4-0314")):
        rows = [answered(q, f"/models/{name}", "x " * (n + i + 1), n + i + 1) for i, q in enumerate("ab")]
        write_rows(folder / f"{name}.jsonl", rows)
    by_file, _ = score_command(path, "--answers", folder)
    assert "style_controlled" in only(by_file)["metrics"]
    both = [answered(q, "run-7", "# Head\n" * 40, 99) for q in "ab"]
    write_rows(folder / "other.jsonl", both)
    by_row, _ = score_command(path, "--answers", folder)
    assert by_row["style"]["mean"] != by_file["style"]["mean"]
    write_rows(folder / "another.jsonl", both)
    _, notes = score_command(path, "--answers", folder, code=2)
    assert "another.jsonl and " in notes
    assert "other.jsonl both hold answers of run-7" in notes
    write_rows(folder / "run-7.jsonl", both)
    report, _ = score_command(path, "--answers", folder)
    assert report["style"] == by_row["style"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"choices": [{"turns": [{"content": None, "token_len": 3}]}]}, "line 2: the answer of gpt-4-0314 to a has no"),
        ({"choices": []}, "has no text"),
        ({"choices": [{"turns": []}]}, "has no text"),
        ({"choices": None, "messages": []}, "has no text"),
        ({"choices": [{"turns": [{"content": "x", "token_len": -1}]}]}, "'choices[0].turns[0].token_len' holds -1"),
        ({"choices": [{"turns": [{"content": "x", "token_len": "9"}]}]}, "a number of tokens is expected"),
        ({"choices": [{"turns": [{"content": "x"}]}]}, "line 2: the answer of gpt-4-0314 to a has no token_len"),
        ({"choices": "x"}, "line 2: the key 'choices' holds"),
        ({"conv_metadata": 5}, "line 2: the key 'conv_metadata' holds 5: an object is expected"),
        ({"model_id": 5}, "line 2: the key 'model_id' holds 5"),
    ],
)
def test_answers_of_wrong_types_are_one_sentence(change: Row, sentence: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "judged.jsonl", [judged("a", stored("B>A", "A>>B"))])
    rows = [answered("a", "m"), answered("a", "gpt-4-0314") | change]
    _, notes = score_command(path, "--answers", write_rows(tmp_path / "answers.jsonl", rows), code=2)
    assert "answers.jsonl, " in notes
    assert sentence in notes


def test_an_answer_that_failed_is_replaced_by_its_re_run(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "judged.jsonl", [judged(q, stored("B>A", "A>>B")) for q in "ab"])
    rows = [answered(q, name, "x " * n, n) for q in "ab" for n, name in enumerate(("m", "gpt-4-0314"), 2)]
    failed = rows[0] | {"choices": [{"turns": [{"content": None}]}]}
    for answers in ([failed, *rows], [*rows, failed]):
        report, _ = score_command(path, "--answers", write_rows(tmp_path / "answers.jsonl", answers))
        assert "style_controlled" in only(report)["metrics"]


# which set it is


def test_the_official_ids_are_those_of_the_published_questions() -> None:
    for version, category in OFFICIAL_IDS:
        text = golden("arena_hard", f"question_{version}.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.split("\n") if line]
        ids = [r["uid"] for r in rows if category in (None, r["category"])]
        assert len(ids) == OFFICIAL_IDS[version, category].size
        assert set_label(reversed(ids), version, category) == OFFICIAL
        assert set_label(ids[1:], version, category).startswith(f"{len(ids) - 1} questions, not the official set")
        assert set_label([*ids[1:], "other"], version, category) != OFFICIAL
        assert set_label([*ids, ids[0]], version, category) != OFFICIAL


def test_a_small_folder_is_not_the_official_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path))
    for count, kind in ((3, ArenaHard01), (1, ArenaHard01), (2, ArenaHard20)):
        folder = tmp_path / "arena_hard"
        rows = [{"uid": f"q{i}", "prompt": "x", "category": "hard_prompt"} for i in range(count)]
        write_rows(folder / f"question_{kind.release}.jsonl", rows)
        benchmark = kind(kind.Options(length="characters"))
        assert benchmark._set_label().startswith(f"{count} questions, not the official set")
        assert kind(kind.Options(limit=99))._set_label().startswith(f"{count} questions, not the official set")
    assert ArenaHard20(ArenaHard20.Options(limit=1))._set_label() == "first 1 prompts"
    official = golden("arena_hard", "question_v0.1.jsonl").read_text(encoding="utf-8")
    (tmp_path / "arena_hard" / "question_v0.1.jsonl").write_text(official, encoding="utf-8")
    assert ArenaHard01()._set_label() == OFFICIAL


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"uid": "a"}, "line 1: the question a has no prompt"),
        ({"uid": "a", "turns": []}, "line 1: the question a has no prompt"),
        ({"uid": "a", "turns": 3}, "line 1: the key 'turns' holds 3"),
        ({"uid": "a", "prompt": 3}, "line 1: the key 'prompt' holds 3"),
        ({"prompt": "x"}, "line 1: the key 'question_id' (or 'uid') is missing"),
        ({"uid": True, "prompt": "x"}, "line 1: the key 'uid' holds true"),
    ],
)
def test_questions_of_wrong_types_are_one_sentence(
    row: Row, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path))
    write_rows(tmp_path / "arena_hard" / "question_v0.1.jsonl", [row])
    with pytest.raises(UserError) as error:
        ArenaHard01().prompt_texts()
    assert sentence in str(error.value)


# anything


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["[[A>B]]", "A>B", "m", "\ud83d", "tie", "model_b", "gpt-4-0314"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list("abc")), inner, max_size=2),
    max_leaves=4,
)
GAME = st.fixed_dictionaries({}, optional={"judgment": ANYTHING, "score": ANYTHING}) | ANYTHING
JUDGMENT = st.fixed_dictionaries(
    {"games": st.lists(GAME, max_size=3) | ANYTHING},
    optional=dict.fromkeys(("question_id", "uid", "model", "judge", "baseline", "category"), ANYTHING),
)
BATTLE = st.fixed_dictionaries(
    {"winner": st.sampled_from(["model_a", "tie"]) | ANYTHING},
    optional=dict.fromkeys(("question_id", "model_a", "model_b"), ANYTHING),
)
TURN = st.fixed_dictionaries({}, optional={"content": ANYTHING, "token_len": ANYTHING}) | ANYTHING
ANSWER = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries({"turns": st.lists(TURN, max_size=2) | ANYTHING}), max_size=2)},
    optional=dict.fromkeys(
        ("question_id", "uid", "model_id", "model", "answer", "token_len", "metadata", "messages"), ANYTHING
    ),
)
GOOD = [judged(q, stored("B>A", "A>>B")) for q in "ab"]
GOOD_ANSWERS = [answered(q, name) for q in "ab" for name in ("m", "gpt-4-0314")]


def check_values(path: Path, answers: Path | None, version: Version) -> None:
    """A report whose values are in their ranges, or one sentence."""
    try:
        report = score_judgment_files(path, answers, version).report.as_json()
    except UserError as error:
        assert "\n" not in str(error)
        return
    score_tables(report)
    json.dumps(report, ensure_ascii=False, allow_nan=False).encode()
    for row in report["scores"]:
        assert 0 <= row["n_valid"] <= row["n_total"]
        for value in (
            row["official"],
            *(v for m in row["metrics"].values() for v in (m["value"], m["low"], m["high"])),
        ):
            assert value is None or (math.isfinite(value) and -1e-9 <= value <= 100 + 1e-9)


@given(st.lists(JUDGMENT, min_size=1, max_size=2), st.booleans(), st.sampled_from(["v0.1", "v2.0"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_values_in_judgments(tmp_path: Path, rows: list[Row], beside: bool, version: Version) -> None:
    check_values(write_rows(tmp_path / "m.jsonl", [*(GOOD if beside else []), *rows]), None, version)


@given(st.lists(BATTLE, min_size=1, max_size=3))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_values_in_battles(tmp_path: Path, rows: list[Row]) -> None:
    check_values(write_rows(tmp_path / "m.jsonl", [*battles_of([1, 0], "a", "m"), *rows]), None, "v0.1")


@given(st.lists(ANSWER, min_size=1, max_size=2), st.booleans())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_values_in_answers(tmp_path: Path, rows: list[Row], first: bool) -> None:
    answers = [*rows, *GOOD_ANSWERS] if first else [*GOOD_ANSWERS, *rows]
    check_values(write_rows(tmp_path / "m.jsonl", GOOD), write_rows(tmp_path / "answers.jsonl", answers), "v0.1")
