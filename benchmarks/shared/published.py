"""Where official files were published: repository, commit, path and, where it is known, the sha256 of the bytes.

A revision is a commit, never a branch. A hash stands here only if it was computed on the file, or quoted beside that
very commit by a project that checks it. Without one the commit alone pins the bytes, and protocols hold their hash.
"""

from __future__ import annotations

from benchmarks.shared.download import PublishedFile

_ALPACA = "2edc6fad8be6b14ea7230aabfd08188da6b8b814"

_FASTCHAT = "0e6d3e4beaab66f4d3f93db72541a4abab8af28d"

_ARENA = "196f6b826783b3da7310e361a805fa36f0be83f3"


def _alpaca(name: str, sha256: str) -> PublishedFile:
    return PublishedFile("dataset", "tatsu-lab/alpaca_eval", name, _ALPACA, sha256)


def _fastchat(path: str, sha256: str) -> PublishedFile:
    return PublishedFile("github", "lm-sys/FastChat", f"fastchat/llm_judge/data/{path}", _FASTCHAT, sha256)


def _arena(path: str, sha256: str = "", revision: str = _ARENA) -> PublishedFile:
    return PublishedFile("github", "lmarena/arena-hard-auto", path, revision, sha256)


PUBLISHED = {
    "alpaca_eval/alpaca_eval_gpt4_baseline.json": _alpaca(
        "alpaca_eval_gpt4_baseline.json", "83db546b872ddebee8965fd05fa48461ee3c32bc695c62fb57f2d214ff741ec4"
    ),
    "alpaca_eval/instruction_difficulty.csv": _alpaca(
        "instruction_difficulty.csv", "e28d875bb334f75e17acd1e4ed659b261860e3db379cf5de29060301bed0a18b"
    ),
    "alpaca_eval/df_gamed.csv": _alpaca(
        "df_gamed.csv", "97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d"
    ),
    "alpaca_eval/alpaca_eval_clf.txt": PublishedFile(
        "github",
        "tatsu-lab/alpaca_eval",
        "src/alpaca_eval/evaluators_configs/alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt",
        "cd543a149df89434d8a54582c0151c0b945c3d20",
        "784227e6dc2832fc08c43d2c8ea3a308e7523780187a1aaad2f85e30bac85f62",
    ),
    "mt_bench/question.jsonl": _fastchat(
        "mt_bench/question.jsonl", "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7"
    ),
    "mt_bench/reference_answer_gpt-4.jsonl": _fastchat(
        "mt_bench/reference_answer/gpt-4.jsonl", "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f"
    ),
    "mt_bench/judge_prompts.jsonl": _fastchat(
        "judge_prompts.jsonl", "fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6"
    ),
    "arena_hard/question_v0.1.jsonl": _arena(
        "data/arena-hard-v0.1/question.jsonl", "2650242d2883f22b2abd498f273b6a7e02253cce533f5c91a858e1d44aa3002f"
    ),
    "arena_hard/model_answer_v0.1/gpt-4-0314.jsonl": _arena(
        "data/arena-hard-v0.1/model_answer/gpt-4-0314.jsonl", revision="74e8b6f0ae60529b62c4c2feb71a479ae1311e2d"
    ),
    "arena_hard/judge_config.yaml": _arena(
        "config/judge_config.yaml", revision="7f1b7f5dd6ce53e1f8530220ceb452b7019a8056"
    ),
    "arena_hard/question_v2.0.jsonl": _arena(
        "data/arena-hard-v2.0/question.jsonl", "a75cef6623db6b27aec810497b059f0659705d7ff48dcbccc5bd5b130728ac73"
    ),
    "arena_hard/model_answer_v2.0/o3-mini-2025-01-31.jsonl": _arena(
        "data/arena-hard-v2.0/model_answer/o3-mini-2025-01-31.jsonl",
        "c23a7c255eead99f7f86ad48aa1d8ccdb5b3334f2097e0e1e09184df87265e03",
    ),
    "arena_hard/model_answer_v2.0/gemini-2.0-flash-001.jsonl": _arena(
        "data/arena-hard-v2.0/model_answer/gemini-2.0-flash-001.jsonl",
        "70f614e1345f787a1da98c239d27f6df3c1d26b411cf894949f934a3039d6f0b",
    ),
    "arena_hard/arena-hard-v2.0.yaml": _arena("config/arena-hard-v2.0.yaml"),
    "arena_hard/judge_utils.py": _arena("utils/judge_utils.py"),
}
"""Published files by their place in the data folder."""
