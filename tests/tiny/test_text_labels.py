"""Labels from texts: rewards as TRL computes them, pairwise functions, and what is refused of what they return."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from kit.training import arguments, perturb, rows, sail_trainer
from transformers import LlamaConfig, LlamaForSequenceClassification

from sail import SAILConfig, SAILTrainer, TextPreference
from sail.labels import preferred, probabilities
from sail.pairs import StepPair
from sail.rewards import Completions, ResponseRewards, RewardFunctions
from sail.routes import PR

Load = Callable[[], Any]
LABELLERS = ("preference", "reward_funcs", "reward_processing_classes", "generator")
PAIRS = [StepPair(7 + i, (1,), (2,), (3,), PR, 0.5) for i in range(3)]


def conversations(count: int = 8) -> list[dict[str, Any]]:
    """Rows as a user has them, with a column of their own."""

    def turn(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    return [
        {
            "prompt": turn("user", f"Say {i}."),
            "chosen": turn("assistant", f"{i}."),
            "rejected": turn("assistant", f"I say {i}."),
            "solution": f"s{i}",
        }
        for i in range(count)
    ]


def plain(count: int = 8) -> list[dict[str, Any]]:
    return [{k: v if k == "solution" else v[0]["content"] for k, v in row.items()} for row in conversations(count)]


def trainer_on(folder: Path, load: Load, tokenizer: Any, data: list[dict[str, Any]], **changes: Any) -> SAILTrainer:
    options = {k: changes.pop(k) for k in LABELLERS if k in changes}
    args = SAILConfig(**arguments(folder, **({"pr_share": 1.0, "max_new_tokens": 5} | changes)))
    dataset = Dataset.from_list(data)
    return SAILTrainer(load(), load(), args, train_dataset=dataset, processing_class=tokenizer, **options)


def first_step(trainer: Any) -> dict[str, torch.Tensor]:
    trainer.current_gradient_accumulation_steps = 1
    batches, _ = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, trainer.args.device)
    return dict(batches[0])


def reward_model(tokenizer: Any) -> Any:
    """A random sequence classifier over the tiny model's tokens."""
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_labels=1, pad_token_id=tokenizer.pad_token_id, initializer_range=0.5,
    )  # fmt: skip
    config._name_or_path = "org/tiny-reward"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForSequenceClassification(config).eval()


def text_of(completion: Any) -> str:
    return str(completion if isinstance(completion, str) else completion[0]["content"])


def sometimes(completions: list[Any], solution: list[str], **_: Any) -> list[float | None]:
    return [None if s in ("s1", "s4") else len(text_of(c)) for c, s in zip(completions, solution, strict=True)]


async def late(prompts: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [0.25 * len(ids) for ids in completion_ids]


@pytest.mark.parametrize("data", [conversations(), plain()], ids=["conversations", "plain"])
def test_rewards_are_those_of_trls_online_trainer(tmp_path: Path, tokenizer: Any, data: list[dict[str, Any]]) -> None:
    """Two functions, one of which leaves responses out, and a reward model, weighted: TRL's own sums."""
    from trl.experimental.online_dpo import OnlineDPOTrainer

    model, weights = reward_model(tokenizer), [1.0, 0.5, 2.0]
    args = SAILConfig(**arguments(tmp_path, pr_share=1.0, reward_weights=weights, generation_batch_size=3))
    ours = RewardFunctions([sometimes, late, model], [None, None, tokenizer], args)
    pairs = [StepPair(i, (1,), (2,), (3,), PR, 0.5, columns=row) for i, row in enumerate(data)]
    ids = [tokenizer("abcdefgh"[: i + 1])["input_ids"] + [256] for i in range(len(data))]
    batch = Completions.of(pairs, ids, tokenizer)
    assert [text_of(c) for c in batch.completions] == ["abcdefgh"[: i + 1] for i in range(8)]
    rewards = ours(batch)
    synchronous = lambda completion_ids, **_: [0.25 * len(i) for i in completion_ids]  # noqa: E731
    stub = SimpleNamespace(
        accelerator=SimpleNamespace(device=torch.device("cpu")), reward_funcs=[sometimes, synchronous, model],
        reward_processing_classes=[None, None, tokenizer], reward_weights=torch.tensor(weights), state=None,
    )  # fmt: skip
    theirs = OnlineDPOTrainer._calculate_rewards_from_functions(
        stub, batch.prompts, batch.completions, batch.completion_ids, solution=batch.columns["solution"]
    )
    assert rewards.total == pytest.approx(theirs.tolist(), rel=1e-5)
    assert list(rewards.by_function) == ["sometimes", "late", "tiny-reward"]
    assert np.std(rewards.by_function["tiny-reward"]) > 0.01
    assert math.isnan(rewards.by_function["sometimes"][1])


def test_a_response_that_no_function_scores_has_no_reward(tmp_path: Path, tokenizer: Any) -> None:
    """As GRPOTrainer: NaN, not the 0 of an empty sum. What is logged leaves it out."""
    args = SAILConfig(**arguments(tmp_path, pr_share=1.0))
    pairs = [StepPair(i, (1,), (2,), (3,), PR, 0.5, columns=row) for i, row in enumerate(plain(3))]
    rewards = RewardFunctions(sometimes, None, args)(Completions.of(pairs, [(65,), (66,), (67, 68, 256)], tokenizer))
    assert rewards.total[0] == 1
    assert math.isnan(rewards.total[1])
    assert rewards.logged() == {
        "rewards/unscored": [0.0, 1.0, 0.0], "reward": [1.0, 2.0], "reward_std": [pytest.approx(0.5**0.5)],
        "rewards/sometimes/mean": [1.0, 2.0], "rewards/sometimes/std": [pytest.approx(0.5**0.5)],
    }  # fmt: skip


def test_rewards_become_probabilities() -> None:
    assert [preferred(a, b, "hard") for a, b in ((2.0, 1.0), (1.0, 2.0), (1.0, 1.0))] == [1.0, 0.0, 0.5]
    assert preferred(1e-17, 0.0, "hard") == 1.0
    for kind in ("soft", "sampled"):
        assert preferred(1.7, 0.5, kind) == pytest.approx(1 / (1 + math.exp(-1.2)))
        assert preferred(-2000.0, 0.0, kind) == 0.0
    assert preferred(math.nan, 1.0, "hard") is preferred(1.0, math.nan, "soft") is None


def test_functions_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    args = SAILConfig(**arguments(tmp_path, pr_share=1.0))
    functions = RewardFunctions([lambda **_: [1.0], lambda **_: [2.0], lambda **_: [3.0]], None, args)
    assert functions.names == ["<lambda>", "<lambda>_2", "<lambda>_3"]


@pytest.mark.parametrize("form", [conversations, plain])
def test_rewards_label_the_sampled_pairs(tmp_path: Path, load: Load, tokenizer: Any, form: Any) -> None:
    """K = 3 responses a prompt, each scored once, with its row; labels by hand; what is logged, by hand."""
    calls: list[dict[str, Any]] = []

    def score(**given: Any) -> list[float]:
        calls.append(given)
        return [float(sum(ids) % 11) for ids in given["completion_ids"]]

    trainer = trainer_on(tmp_path, load, tokenizer, form(), reward_funcs=score, labels="soft", num_samples=3)
    batch = first_step(trainer)
    (call,) = calls
    by_solution = {row["solution"]: row for row in form()}
    assert len(call["prompts"]) == 12
    assert call["trainer_state"] is trainer.state
    for prompt, completion, ids, solution, chosen in zip(
        *(call[k] for k in ("prompts", "completions", "completion_ids", "solution", "chosen")), strict=True
    ):
        assert prompt == by_solution[solution]["prompt"]
        assert chosen == by_solution[solution]["chosen"]
        assert text_of(completion) == tokenizer.decode(ids, skip_special_tokens=True)
        assert isinstance(completion, str) is (form is plain)
    answers = [b["input_ids"][m.bool()].tolist() for b, m in _rows(batch)]
    rewards = torch.tensor([float(sum(ids) % 11) for ids in answers])
    torch.testing.assert_close(batch["label"], torch.sigmoid(rewards[:12] - rewards[12:]))
    assert len(set(batch["label"].tolist())) > 3
    scores = [float(sum(ids) % 11) for ids in call["completion_ids"]]
    assert trainer._metrics["train"]["rewards/score/mean"] == scores
    assert trainer._metrics["train"]["rewards/score/std"] == [pytest.approx(np.std(scores, ddof=1))]


def _rows(batch: dict[str, torch.Tensor]) -> Any:
    return [({"input_ids": ids}, mask) for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)]


def test_a_prompt_without_a_reward_leaves_the_step(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """Its pairs weigh nothing; gradients are those of the others at their own weight."""

    def half(solution: list[str], completion_ids: list[list[int]], **_: Any) -> list[float | None]:
        seen: dict[str, int] = {}
        out: list[float | None] = []
        for name, ids in zip(solution, completion_ids, strict=True):
            seen[name] = seen.get(name, 0) + 1
            out.append(None if int(name[1:]) % 2 and seen[name] == 3 else float(len(ids)))
        return out

    trainer = trainer_on(tmp_path, load, tokenizer, plain(), reward_funcs=half, num_samples=3)
    batch = first_step(trainer)
    odd = batch["example_id"] % 2 == 1
    assert 0 < int(odd.sum()) < 12
    assert batch["weight"][odd].tolist() == [0.0] * int(odd.sum())
    assert batch["weight"][~odd].tolist() == pytest.approx([1 / 12] * int((~odd).sum()))
    assert sum(trainer._metrics["train"]["rewards/unscored"]) == int(odd.sum()) / 3
    perturb(trainer.model).train()
    trainer._metrics["train"].clear()
    trainer._compute_loss(trainer.model, batch, False)
    whole = dict(trainer._metrics["train"])
    stay = (~odd).nonzero()[:, 0]
    rows_of = torch.cat([stay, stay + len(odd)])
    part = {k: v[rows_of if len(v) == 2 * len(odd) else stay] for k, v in batch.items()}
    trainer._metrics["train"].clear()
    trainer._compute_loss(trainer.model, part, False)
    for name in ("rewards/chosen", "rewards/accuracies", "logps/rejected", "entropy", "abs_u", "kl", "score/std"):
        assert whole[name] == pytest.approx(trainer._metrics["train"][name], rel=1e-4, abs=1e-6), name
    trainer.train()
    assert all(p.isfinite().all() for p in trainer.model.parameters())


@pytest.mark.parametrize("estimator", ["score", "official"])
def test_a_step_without_any_reward_trains_nothing(tmp_path: Path, load: Load, tokenizer: Any, estimator: str) -> None:
    trainer = trainer_on(
        tmp_path, load, tokenizer, plain(), reward_funcs=lambda prompts, **_: [None] * len(prompts), max_steps=1,
        estimator=estimator,
    )  # fmt: skip
    before = {n: p.clone() for n, p in trainer.model.named_parameters()}
    trainer.train()
    assert all(torch.equal(p, before[n]) for n, p in trainer.model.named_parameters())


@pytest.mark.parametrize("form", [conversations, plain])
def test_text_preference(tmp_path: Path, load: Load, tokenizer: Any, form: Any) -> None:
    """It gets the data set's prompts and both texts; numpy's floats are labels too."""
    calls = []

    def longer(prompts: list[Any], firsts: list[str], seconds: list[str]) -> Any:
        calls.append((prompts, firsts, seconds))
        return np.linspace(0, 1, len(prompts))

    trainer = trainer_on(tmp_path, load, tokenizer, form(), preference=TextPreference(longer), labels="soft")
    batch = first_step(trainer)
    ((prompts, firsts, seconds),) = calls
    assert prompts == [form()[i]["prompt"] for i in batch["example_id"].tolist()]
    texts = [tokenizer.decode(b["input_ids"][m.bool()], skip_special_tokens=True) for b, m in _rows(batch)]
    assert [*firsts, *seconds] == texts
    assert batch["label"].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])


@pytest.mark.parametrize(
    "returned",
    [
        [0, 0.25, True],
        (0.0, 0.25, 1),
        np.array([0, 0.25, 1]),
        torch.tensor([0, 0.25, 1]),
        [torch.tensor(0.0), np.float32(0.25), 1 + 1e-7],
    ],
)
def test_probabilities_may_come_in_any_container(returned: Any) -> None:
    assert probabilities(returned, PAIRS, "f") == [0.0, 0.25, 1.0]


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, r"f returned None: return a list"),
        ([0.5, 0.5], r"f returned 2 values, but was asked for 3"),
        ([0.5, None, 0.5], r"f returned None for pair 1 \(example 8\)"),
        ([0.5, 0.5, math.nan], r"f returned nan for pair 2 \(example 9\)"),
        ([1.5, 0.5, 0.5], r"f returned 1.5 for pair 0 \(example 7\): return the probability in \[0, 1\]"),
        ([-1, 0.5, 0.5], r"f returned -1 for pair 0"),
        (["0.5", 0.5, 0.5], r"f returned '0.5' for pair 0"),
        (torch.tensor([[0.5], [0.5], [0.5]]), r"f returned \[0.5\] for pair 0"),
    ],
)
def test_what_is_no_probability_is_refused(returned: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        probabilities(returned, PAIRS, "f")


def test_a_token_preference_is_checked_in_training(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    def verdict(pairs: Any) -> list[float]:
        return [2.0 for _ in pairs]

    trainer = sail_trainer(tmp_path, load, tokenizer, rows(), pr_share=1.0, preference=verdict, max_new_tokens=3)
    with pytest.raises(ValueError, match=r"preference \(verdict\) returned 2.0 for pair 0 \(example \d+\)"):
        trainer.train()


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ([1.0], "returned 1 values, but was asked for 2"),
        (None, "returned None: return a list"),
        ([1.0, math.inf], r"returned inf for response 1 of 2"),
        (["a", 1.0], r"returned 'a' for response 0 of 2"),
    ],
)
def test_what_is_no_reward_is_refused(tmp_path: Path, returned: Any, words: str) -> None:
    functions = RewardFunctions(lambda **_: returned, None, SAILConfig(**arguments(tmp_path, pr_share=1.0)))
    with pytest.raises(ValueError, match=f"reward function '<lambda>' {words}"):
        functions(Completions(["a", "b"], ["c", "d"], [[1], [2]], {}))


def test_tensors_are_rewards_too(tmp_path: Path) -> None:
    functions = RewardFunctions(lambda **_: torch.tensor([1.0, 2.5]), None, SAILConfig(**arguments(tmp_path)))
    assert functions(Completions(["a", "b"], ["c", "d"], [[1], [2]], {})) == ResponseRewards(
        [1.0, 2.5], {"<lambda>": [1.0, 2.5]}
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "pr_share > 0 needs preference=... or reward_funcs=..."),
        ({"pr_share": 0.0, "reward_funcs": late}, "set pr_share > 0"),
        ({"preference": late, "reward_funcs": late}, "give one of them"),
        ({"preference": late, "reward_weights": [1.0]}, "give reward_funcs"),
        ({"reward_funcs": late, "reward_weights": [1.0, 2.0]}, "reward_weights has 2 entries for 1 reward_funcs"),
        ({"reward_funcs": []}, "reward_funcs is empty"),
        ({"reward_funcs": [late, 3]}, "reward_funcs has 3: give functions"),
        ({"pr_share": 0.0, "preference": late}, "preference labels the pairs of the PR route.*: set pr_share > 0"),
        (
            {"preference": lambda prompts, firsts, seconds: []},
            r"wrap a function of texts as TextPreference\(function\)",
        ),
        ({"preference": 3}, "preference=3 is no function of one list of pairs"),
        ({"preference": lambda pairs: [], "reward_processing_classes": 1}, "give reward_funcs too"),
        ({"preference": lambda pairs: [], "generator": 1}, "generator samples the share other_generator, which is 0"),
    ],
)
def test_labellers_that_cannot_be_meant(
    tmp_path: Path, load: Load, tokenizer: Any, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        trainer_on(tmp_path, load, tokenizer, plain(), **changes)


def test_functions_of_other_arguments_and_columns_of_reserved_names(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    for function in (lambda pairs: [], 3):
        with pytest.raises(ValueError, match="give a function of prompts, first responses and second responses"):
            TextPreference(function)  # type: ignore[arg-type]
    data = [row | {"trainer_state": 1} for row in plain()]
    with pytest.raises(ValueError, match="the train set has a column 'trainer_state'.*: rename it"):
        trainer_on(tmp_path, load, tokenizer, data, reward_funcs=late)


def test_rewards_of_nothing_are_a_warning(tmp_path: Path) -> None:
    functions = RewardFunctions(lambda prompts, **_: [None] * len(prompts), None, SAILConfig(**arguments(tmp_path)))
    batch = Completions(["a", "b"], ["c", "d"], [[1], [2]], {})
    with pytest.warns(UserWarning, match=r"reward_funcs \(<lambda>\) scored none of the 2 responses") as caught:
        functions(batch)
        functions(batch)
    assert len(caught) == 1


def test_a_reward_model_without_a_padding_id_gets_the_tokenizers(tmp_path: Path, tokenizer: Any) -> None:
    """It scores the last token before the padding: texts of two lengths have the rewards that each has alone."""
    model = reward_model(tokenizer)
    model.config.pad_token_id = None
    functions = RewardFunctions(model, tokenizer, SAILConfig(**arguments(tmp_path)))
    batch = Completions(["a", "b"], ["c", "defgh"], [[1], [2]], {})
    with torch.no_grad():
        alone = [model(torch.tensor([tokenizer(text)["input_ids"]])).logits.item() for text in ("ac", "bdefgh")]
    assert functions(batch).total == pytest.approx(alone, rel=1e-5)


def test_texts_need_a_prompt(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="the train set holds token ids alone: add a column 'prompt'"):
        trainer_on(tmp_path, load, tokenizer, rows(), reward_funcs=late)
    beside = [row | {"prompt": str(i)} for i, row in enumerate(rows())]
    calls = []
    trainer = trainer_on(tmp_path, load, tokenizer, beside, preference=TextPreference(lambda p, a, b: calls.append(p)))
    with pytest.raises(ValueError, match="returned None"):
        first_step(trainer)
    assert set(calls[0]) < {str(i) for i in range(12)}


def test_an_evaluation_beside_rewards(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """The rows that labelling reads do not reach the model."""
    trainer = trainer_on(tmp_path, load, tokenizer, conversations(), reward_funcs=late)
    held_out = Dataset.from_list(conversations(6))
    assert math.isfinite(trainer.evaluate(held_out)["eval_loss"])


@pytest.mark.parametrize("by_address", [True, False])
def test_a_reward_model_labels(tmp_path: Path, load: Load, tokenizer: Any, by_address: bool) -> None:
    """By its address, with the tokenizer that lies beside it, or in memory: the same labels."""
    folder = tmp_path / "reward"
    model = reward_model(tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model.config._name_or_path = str(folder)
    trainer = trainer_on(
        tmp_path / "out", load, tokenizer, conversations(), labels="soft",
        reward_funcs=str(folder) if by_address else model,
    )  # fmt: skip
    batch = first_step(trainer)
    values = []
    for i, (b, m) in enumerate(_rows(batch)):
        prompt = conversations()[int(batch["example_id"][i % 4])]["prompt"]
        answer = tokenizer.decode(b["input_ids"][m.bool()], skip_special_tokens=True)
        text = tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": answer}], tokenize=False)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            values.append(model(input_ids=ids).logits[0, 0])
    rewards = torch.stack(values)
    torch.testing.assert_close(batch["label"], torch.sigmoid(rewards[:4] - rewards[4:]), rtol=1e-4, atol=1e-5)
    assert "rewards/reward/mean" in trainer._metrics["train"]
