"""Our formulas against the official packages' own code: alpaca_eval 0.6.6 and FastChat (fschat) 0.2.36.

alpaca_eval's import takes many seconds, so what needs it is slow.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import golden
from test_mt_bench_pairs import judged, write

from benchmarks.alpaca_eval.official import AlpacaEval2, AlpacaEval2Options
from benchmarks.alpaca_eval.verdict import is_switched, preference_from_logprobs, stored_preference, win_rate
from benchmarks.mt_bench.score_pairwise import score_pairwise_games
from benchmarks.mt_bench.score_single import score_single_ratings
from harness.answer.chat_template import set_chat_template
from harness.answer.reply import Call, Reply
from harness.errors import UserError
from harness.score.length_control import Anchors, length_controlled_rate, official_fit


def installed(package: str) -> Any:
    """A mark: the test needs an official package."""
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed (extra dev)")


alpaca = [installed("alpaca_eval"), pytest.mark.slow]
MODELS = ["alpaca-7b", "gpt4_gamed", "gemma-7b-it", "vicuna-13b-v1.5-togetherai"]


def rows(*path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in golden(*path).read_text(encoding="utf-8").split("\n") if line]


@pytest.fixture
def metrics() -> Iterator[Any]:
    """alpaca_eval's metrics; it switches scikit-learn's metadata routing on, which is switched off again."""
    import sklearn
    from alpaca_eval import metrics

    yield metrics
    sklearn.set_config(enable_metadata_routing=False)


@pytest.mark.parametrize("model", MODELS)
class TestAlpacaEvalMetrics:
    pytestmark = alpaca

    def test_raw_win_rates(self, model: str, metrics: Any) -> None:
        found = [r for r in rows("alpaca_eval", "annotations", f"{model}.jsonl") if r["preference"] is not None]
        theirs = metrics.get_winrate([{"preference": r["preference"]} for r in found])
        ours = win_rate([v for r in found if (v := stored_preference(r["preference"]).value) is not None]).as_json()
        assert {k: float(theirs[k]) for k in ours} == pytest.approx(ours, rel=0, abs=1e-9)

    def test_length_controlled_win_rate(
        self, model: str, metrics: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its own features, cross-validation and fit; the table that it downloads is made from the golden data."""
        import pandas as pd
        from alpaca_eval.metrics import glm_winrate

        hard = pd.read_csv(golden("alpaca_eval", "instruction_difficulty_recovered.csv"))
        gamed = pd.read_csv(golden("alpaca_eval", "gamed_baseline_reconstructed.csv"))
        gamed.merge(hard, on="index").sort_values(["model", "index"]).to_csv(tmp_path / "df_gamed.csv", index=False)
        monkeypatch.setattr(glm_winrate, "hf_hub_download", lambda **told: str(tmp_path / told["filename"]))
        found = rows("alpaca_eval", "annotations", f"{model}.jsonl")
        frame = pd.DataFrame(
            {
                "index": [r["index"] for r in found],
                "preference": [r["preference"] for r in found],
                "output_1": ["x" * r["len_1"] for r in found],
                "output_2": ["x" * r["len_2"] for r in found],
                "generator_1": "gpt4_1106_preview",
                "generator_2": model,
                "annotator": "weighted_alpaca_eval_gpt4_turbo",
            }
        ).set_index("index")
        theirs = metrics.get_length_controlled_winrate(frame, save_weights_dir=None, is_warn_extreme_changes=False)
        y = np.array([stored_preference(r["preference"]).value for r in found], dtype=float) - 1
        delta = np.array([r["len_1"] - r["len_2"] for r in found], dtype=float)
        gamma = hard["instruction_difficulty"].to_numpy()[[r["index"] for r in found]]
        merged = gamed.merge(hard, on="index")
        anchors = Anchors(
            np.tanh(merged["std_delta_len"].to_numpy()),
            merged["instruction_difficulty"].to_numpy(),
            merged["preference"].to_numpy(),
        )
        coefficients, _ = official_fit(y, delta, gamma, anchors)
        ours = length_controlled_rate(coefficients[None], gamma, np.ones((1, len(y))))[0]
        assert theirs["length_controlled_winrate"] == pytest.approx(ours, abs=1e-6)


class TestAlpacaEvalJudge:
    pytestmark = alpaca

    def test_log_probabilities_are_read_alike(self) -> None:
        """All completions of the golden files, and some that name one token, the other, or neither."""
        from alpaca_eval.completion_parsers import logprob_parser

        found = [r.get("top_logprobs") for m in MODELS for r in rows("alpaca_eval", "annotations", f"{m}.jsonl")]
        cases = [top for top in found if top] + [{"m": -0.3}, {"M": -0.1, "The": -3.0}, {"Both": -0.2}]
        assert len(cases) > 800
        for top in cases:
            content = [{"top_logprobs": [{"token": t, "logprob": v} for t, v in top.items()]}]
            completion = {"logprobs": {"content": content}}
            (theirs,) = logprob_parser(completion, "m", ["m", "M"], is_binarize=False)
            ours = preference_from_logprobs(top, False)
            assert (ours is None) == np.isnan(theirs)
            assert ours is None or ours == pytest.approx(theirs, abs=1e-12)

    def test_orders_are_switched_alike(self) -> None:
        import pandas as pd
        from alpaca_eval.processors import RandomSwitchTwoColumnsProcessor

        texts = [r["instruction"] for r in rows("alpaca_eval", "eval_set_gpt4_1106_preview.jsonl")]
        switch = RandomSwitchTwoColumnsProcessor(
            two_columns_to_switch=["output_1", "output_2"],
            random_seed_columns=["instruction"],
            _switch_column="is_switched_outputs",
            seed=0,
        )
        frame = pd.DataFrame({"instruction": texts, "output_1": "theirs", "output_2": "ours"})
        found = switch.preprocess(frame)
        assert [is_switched(t) for t in texts] == list(found["is_switched_outputs"])
        assert [is_switched(t) for t in texts] == [o == "ours" for o in found["output_1"]]

    def test_the_judge_is_asked_alike(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Decoding and messages of our calls against the package's configuration, prompt and chat conversion."""
        import alpaca_eval
        import pandas as pd
        from alpaca_eval import utils

        folder = Path(alpaca_eval.__file__).parent / "evaluators_configs"
        config = yaml.safe_load((folder / "weighted_alpaca_eval_gpt4_turbo/configs.yaml").read_text())
        config = config["weighted_alpaca_eval_gpt4_turbo"]
        monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(golden("alpaca_eval").parent))
        asked: list[Call] = []
        context: Any = SimpleNamespace(ask=lambda calls: [asked.append(c) or Reply("m") for c in calls])  # type: ignore[func-returns-value]
        items = rows("alpaca_eval", "eval_set_gpt4_1106_preview.jsonl")[:40]
        said = [f"Answer {i}: {{x}} of mine.\n" for i in range(40)]
        benchmark = AlpacaEval2(AlpacaEval2Options(limit=40))
        benchmark.judge([{"index": i, "answer": {"text": t}} for i, t in enumerate(said)], context)
        wanted = config["completions_kwargs"]
        assert {(c.temperature, c.max_tokens, c.top_logprobs) for c in asked} == {
            (wanted["temperature"], wanted["max_tokens"], wanted["top_logprobs"])
        }
        assert wanted["logprobs"]
        for item, text, call in zip(items, said, asked, strict=True):
            outputs = [item["baseline_output"], text]
            first, second = reversed(outputs) if is_switched(item["instruction"]) else outputs
            frame = pd.DataFrame([{"instruction": item["instruction"], "output_1": first, "output_2": second}])
            (prompt,), _ = utils.make_prompts(frame, (folder / config["prompt_template"]).read_text())
            theirs = [(m["role"], m["content"]) for m in utils.prompt_to_chatml(prompt)]
            assert [(role, content.strip()) for role, content in call.messages] == theirs


# FastChat


@installed("fastchat")
def test_fastchat_templates(tokenizer: Any) -> None:
    """Every conversation template that can be written in Jinja, through the tokenizer, against ``get_prompt``."""
    import copy

    from fastchat.conversation import conv_templates

    turns = ["What is {{ this }}?", 'It\'s "that".\n\nOr\tso.', " And \\n then? ", "Nothing.", "Quite sure?"]
    refused = set()
    for name, template in conv_templates.items():
        own = copy.deepcopy(tokenizer)
        try:
            set_chat_template(own, f"fastchat:{name}")
        except UserError:
            refused.add(name)
            continue
        for count, system in ((1, None), (2, None), (3, None), (5, None), (3, "Be {kind}.")):
            conversation = template.copy()
            messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns[:count])]
            if system is not None:
                if "{system_message}" not in template.system_template:
                    continue
                conversation.set_system_message(system)
                messages.insert(0, {"role": "system", "content": system})
            for i, text in enumerate(turns[:count]):
                conversation.append_message(conversation.roles[i % 2], text)
            if count % 2:
                conversation.append_message(conversation.roles[1], None)
            found = own.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            assert found == conversation.get_prompt(), name
    # no text format of its own, numbered rounds, or texts that it changes
    assert refused == {
        "chatgpt", "pplxai", "bard", "gemini", "steerlm", "chatglm", "chatglm2", "rwkv", "falcon", "yuan2"
    }  # fmt: skip


@installed("fastchat")
@pytest.mark.parametrize("pairs", [[("a", "base"), ("b", "base")], [("a", "b"), ("b", "c"), ("a", "c")]])
def test_fastchat_shows_the_same_win_rates(
    pairs: list[tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastchat.llm_judge.show_result import display_result_pairwise

    path = write(tmp_path / "gpt-4_pair.jsonl", judged(pairs, range(81, 121), seed=5))
    baseline = "base" if len(pairs) == 2 else None
    display_result_pairwise(argparse.Namespace(input_file=str(path), baseline_model=baseline, model_list=None))
    lines = [line.split() for line in capsys.readouterr().out.split("\n") if line.split()[:1] in (["a"], ["b"], ["c"])]
    shown = {line[0]: [float(v) for v in line[4:7]] for line in lines}  # win_rate, loss_rate, win_rate_adjusted
    scores = {s["model"]: s["metrics"] for s in score_pairwise_games(path).as_json()["scores"]}
    assert set(shown) == set(scores)
    assert len(shown) == len(pairs)
    for model, values in shown.items():
        ours = [scores[model][name]["value"] / 100 for name in ("win", "loss", "win_rate_adjusted")]
        assert ours == pytest.approx(values, abs=1e-6)


@installed("fastchat")
@pytest.mark.parametrize("name", ["judgments_gpt-4_single_jxiw.jsonl", "judgments_messy_orpo.jsonl"])
def test_fastchat_shows_the_same_means(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from fastchat.llm_judge.show_result import display_result_single

    path = golden("mt_bench", name)
    display_result_single(argparse.Namespace(input_file=str(path), bench_name="mt_bench", model_list=None))
    average = capsys.readouterr().out.split("## Average")[1].split("\n")
    shown = {line.split()[0]: float(line.split()[1]) for line in average if len(line.split()) == 2}
    facts = score_single_ratings(path).facts
    assert {m: facts[m]["show_result"] for m in facts} == pytest.approx(
        {m: v for m, v in shown.items() if m in facts}, abs=1e-6
    )
