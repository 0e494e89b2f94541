"""Small data in the layout of the official sets, a scripted judge for it, and recipes that use both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.store.json_files import digest
from tests.kit.command import write_tiny
from tests.kit.judge_server import Handler, Server, completion
from tests.kit.rows import write_rows

PAIR_SYSTEM = "<|im_start|>system\nBe fair.\n<|im_end|>\n"
PAIR = PAIR_SYSTEM + "<|im_start|>user\n{instruction}\n[m]{output_1}[M]{output_2}\n<|im_end|>\n"
SETS = {"mt_bench_official": {"max_new_tokens": 6}, "alpaca_eval_2": {"max_new_tokens": 6}}


def write_official_data(folder: Path) -> Path:
    """A small folder of our own in the official layout: MT-Bench and AlpacaEval."""
    categories = ["writing", "math", "stem"]
    write_rows(
        folder / "mt_bench/question.jsonl",
        [
            {"question_id": 81 + i, "category": c, "turns": [f"One {c}?", "And {two}?"]}
            for i, c in enumerate(categories)
        ],
    )
    reference = {"question_id": 82, "choices": [{"index": 0, "turns": ["Ref one.", "Ref two."]}]}
    write_rows(folder / "mt_bench/reference_answer_gpt-4.jsonl", [reference])
    single, both = "Q {question} A {answer}", "Q {question_1} A {answer_1} Q {question_2} A {answer_2}"
    pair, pairs = "Q {question} A {answer_a} B {answer_b}", "Q {question_2} A {answer_a_1} {answer_a_2} B "
    pairs += "{answer_b_1} {answer_b_2} after {question_1}"
    prompts = {
        "pair-v2": pair,
        "pair-math-v1": "R {ref_answer_1} " + pair,
        "pair-v2-multi-turn": pairs,
        "pair-math-v1-multi-turn": "R {ref_answer_1} R {ref_answer_2} " + pairs,
        "single-v1": single,
        "single-math-v1": "R {ref_answer_1} " + single,
        "single-v1-multi-turn": both,
        "single-math-v1-multi-turn": "R {ref_answer_1} R {ref_answer_2} " + both,
    }
    write_rows(
        folder / "mt_bench/judge_prompts.jsonl",
        [{"name": n, "system_prompt": f"system of {n}", "prompt_template": t} for n, t in prompts.items()],
    )
    items = [{"instruction": f"Do {i} {{x}}", "baseline_output": f"baseline {i} " * (i + 1)} for i in range(6)]
    write_rows(folder / "alpaca_eval/eval_set_gpt4_1106_preview.jsonl", items)
    (folder / "alpaca_eval/judge_prompt_alpaca_eval_clf.txt").write_text(PAIR)
    hard = "".join(f"{i},{0.5 * i - 1}\n" for i in range(6))
    (folder / "alpaca_eval/instruction_difficulty.csv").write_text("index,instruction_difficulty\n" + hard)
    gamed = "".join(f"{i},{s},{p}\n" for s, p in ((1.2, 0.2), (-1.2, 0.7)) for i in range(6))
    (folder / "alpaca_eval/df_gamed.csv").write_text("index,std_delta_len,preference\n" + gamed)
    return folder


def write_questions(folder: Path, count: int) -> None:
    """Other questions of MT-Bench, two turns each."""
    questions = [{"question_id": 200 + i, "category": "writing", "turns": [f"Say {i}.", "And?"]} for i in range(count)]
    write_rows(folder / "mt_bench/question.jsonl", questions)


def pair_verdict(text: str) -> str:
    """Any verdict, or none, as the text will have it."""
    return ("[[A]]", "It is [[B]].", "[[C]]", "no verdict")[int(digest(text), 16) % 4]


def scripted(handler: Handler, body: dict[str, Any], n: int) -> None:
    text, top = body["messages"][-1]["content"], None
    if body["messages"][0]["content"].startswith("system of pair"):
        reply = pair_verdict(text)
    elif body["model"] == "policy-x":
        reply = "" if text.startswith("Do 3") else f"Remote: {text[:7]}"
    elif body.get("logprobs"):
        reply, top = "m", {"m": -0.4, "M": -1.2}
    else:
        reply = "no rating" if "One stem?" in text and "And" not in text else f"Fine. [[{1 + len(text) % 9}]]"
    handler.send(completion(reply, top))


def judge_at(server: Server, **more: Any) -> dict[str, Any]:
    """What a recipe says of a judge behind an endpoint."""
    return {"model": "judge-1", "base_url": f"http://127.0.0.1:{server.server_port}/v1"} | more


def write_recipe(folder: Path, judge: Any, **changes: Any) -> Path:
    """``official.yaml``: the tiny policy on the official sets."""
    defaults = {"methods": ["start", "dpo"], "tune": {"learning_rates": [1e-3]}, "benchmarks": SETS}
    return write_tiny(folder / "official.yaml", **defaults | changes, judge=judge)
