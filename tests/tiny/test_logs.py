"""What is logged, in training and evaluation: TRL's own log on the same pairs, else plain forwards by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from kit.random_models import random_model
from kit.training import arguments, dpo_trainer, longest, perturb, rows, sail_trainer
from trl import DPOConfig

from harness.methods.base import PairMethod
from harness.methods.hinge import Hinge
from harness.methods.ipo import IPO, IPOConfig
from harness.methods.orpo import ORPO
from harness.methods.rdpo import RDPO, RDPOConfig
from harness.methods.sft import SFT
from harness.methods.simpo import SimPO
from harness.train.pair_trainers import PairKTOTrainer, PairTrainer
from sail.losses import Rewards, Sides
from sail.metrics import reward_metrics

Load = Callable[[], Any]
TIMED = ("seconds", "runtime", "per_second", "grad_norm", "epoch", "learning_rate")
PAIRS = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
)
TOKENS = ("entropy", "mean_token_accuracy", "logits/chosen", "logits/rejected")


def held_out() -> Dataset:
    """Six pairs: in batches of four, the last one is short."""
    return Dataset.from_list(rows(6, seed=5)).remove_columns("example_id")


def logged(trainer: Any) -> list[dict[str, float]]:
    """The logs of training at a policy away from its reference, and of the evaluation afterwards."""
    perturb(trainer.model)
    trainer.train()
    trainer.evaluate()
    return [row for row in trainer.state.log_history if "train_runtime" not in row]


def assert_same(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> None:
    """All that TRL logs, times aside, to float32's accuracy."""
    assert len(ours) == len(theirs) == 3
    for mine, stock in zip(ours, theirs, strict=True):
        names = {n for n in stock if not any(part in n for part in TIMED)}
        prefix = "eval_" if "eval_loss" in stock else ""
        assert names >= {prefix + n for n in ("loss", "num_tokens", *PAIRS, *TOKENS)}
        for name in names:
            assert mine[name] == pytest.approx(stock[name], rel=1e-4, abs=1e-4), name
    assert abs(theirs[0]["rewards/margins"]) > 1e-3


@pytest.mark.parametrize(("ours", "theirs"), [("bt", "sigmoid"), ("hinge", "hinge"), ("ipo", "ipo")])
def test_logs_without_shares_are_trls(tmp_path: Path, load: Load, tokenizer: Any, ours: str, theirs: str) -> None:
    """Every value of TRL's log, in training and in the evaluation of an uneven data set, under the same loss."""
    settings = {"eval_dataset": held_out(), "per_device_eval_batch_size": 4, "max_steps": 2}
    stock = logged(dpo_trainer(tmp_path, load, tokenizer, rows(), loss_type=[theirs], **settings))
    assert_same(logged(sail_trainer(tmp_path, load, tokenizer, rows(), pair_loss=ours, **settings)), stock)


def test_equal_rewards_are_no_accuracy() -> None:
    """As TRL counts them."""
    zero = torch.zeros(4)
    rewards = Rewards(torch.tensor([1.0, 0.0, 2.0, 5.0]), torch.tensor([1.0, 0.0, 1.0, 6.0]))
    sides = Sides(zero, zero, zero, zero, zero + 1, zero + 1)
    assert reward_metrics(rewards, sides, torch.ones(4))["rewards/accuracies"] == 0.25


def pair_trainer(folder: Path, load: Load, tokenizer: Any, kind: Any = PairTrainer, **options: Any) -> Any:
    evaluated = {"eval_dataset": options.pop("eval_dataset")} if "eval_dataset" in options else {}
    changes = {"max_steps": 2, "per_device_eval_batch_size": 4, "precompute_ref_log_probs": True}
    return kind(
        model=load(),
        ref_model=load(),
        args=DPOConfig(**arguments(folder, **changes)),
        train_dataset=Dataset.from_list(rows()).remove_columns("example_id"),
        processing_class=tokenizer,
        **evaluated,
        **options,
    )


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (Hinge(), {"loss_type": ["hinge"]}),
        (IPO(IPOConfig(tau=0.3)), {"loss_type": ["ipo"]}),
        (RDPO(RDPOConfig(flip_rate=0.2)), {"loss_type": ["robust"], "label_smoothing": 0.2}),
    ],
    ids=["hinge", "ipo", "rdpo"],
)
def test_methods_log_what_trl_logs(
    tmp_path: Path, load: Load, tokenizer: Any, method: PairMethod, settings: dict[str, Any]
) -> None:
    common = {"eval_dataset": held_out(), "per_device_eval_batch_size": 4, "max_steps": 2}
    stock = logged(dpo_trainer(tmp_path, load, tokenizer, rows(), **settings, **common))
    options = {"pair_loss": method.loss(0.3), "rewards": method.rewards(0.3), "eval_dataset": held_out()}
    assert_same(logged(pair_trainer(tmp_path, load, tokenizer, **options)), stock)


def logps(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Log-probabilities of the tokens of each completion by a plain forward, zeros elsewhere. Shape (rows, L)."""
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    token = torch.log_softmax(logits, -1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
    return token * batch["completion_mask"][:, 1:]


def first_batch(trainer: Any) -> dict[str, torch.Tensor]:
    """The first micro-batch, with the model set to training: what is computed on it is logged as such."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    (batch,), _ = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, trainer.args.device)
    return dict(batch)


def last(trainer: Any) -> dict[str, float]:
    return {name: values[-1] for name, values in trainer._metrics["train"].items()}


@pytest.mark.parametrize(("method", "scale"), [(SimPO(), 2.5), (ORPO(), 0.1)], ids=["simpo", "orpo"])
def test_rewards_without_a_reference_are_token_means(
    tmp_path: Path, load: Load, tokenizer: Any, method: PairMethod, scale: float
) -> None:
    """As in TRL's trainers of SimPO and ORPO: the scale times the mean log-probability of a token."""
    trainer = pair_trainer(tmp_path, load, tokenizer, pair_loss=method.loss(0.3), rewards=method.rewards(0.3))
    batch = first_batch(trainer)
    trainer._compute_loss(trainer.model, batch, False)
    sums, lengths = logps(trainer.model, batch).sum(1), batch["completion_mask"].sum(1)
    chosen, rejected = (scale * sums / lengths).chunk(2)
    by_hand = [chosen, rejected, chosen - rejected, (chosen > rejected).float(), *sums.chunk(2)]
    assert [last(trainer)[n] for n in PAIRS] == pytest.approx([float(v.mean()) for v in by_hand], rel=1e-4)


def test_kto_logs_its_implicit_rewards(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    trainer = pair_trainer(tmp_path, load, tokenizer, PairKTOTrainer, beta=0.2, desirable=1.0, undesirable=1.0)
    perturb(trainer.model)
    batch = first_batch(trainer)
    trainer._compute_loss(trainer.model, batch, False)
    ratio = logps(trainer.model, batch).sum(1) - torch.cat([batch["ref_chosen_logps"], batch["ref_rejected_logps"]])
    assert last(trainer)["rewards/chosen"] == pytest.approx(float(0.2 * ratio[:4].mean()), rel=1e-3)
    assert last(trainer)["rewards/rejected"] == pytest.approx(float(0.2 * ratio[4:].mean()), rel=1e-3)
    assert set(last(trainer)) == {"num_tokens", *PAIRS, *TOKENS}


def test_sft_logs_its_chosen_responses(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """It has no reward and never sees the rejected responses."""
    trainer = pair_trainer(tmp_path, load, tokenizer, pair_loss=SFT().loss(0.3), chosen_only=True)
    batch = first_batch(trainer)
    trainer._compute_loss(trainer.model, batch, False)
    assert last(trainer)["logps/chosen"] == pytest.approx(
        float(logps(trainer.model, batch)[:4].sum(1).mean()), rel=1e-4
    )
    assert set(last(trainer)) == {"num_tokens", "logps/chosen", "entropy", "mean_token_accuracy", "logits/chosen"}


@pytest.mark.parametrize("estimator", ["score", "rao-blackwell", "official"])
def test_chosen_is_what_the_label_prefers(tmp_path: Path, load: Load, tokenizer: Any, estimator: str) -> None:
    """All routes at once: labels of the data set, of the preference, and drawn; the loss is the mean of phi."""
    shares = {"dp_share": 0.25, "pp_share": 0.25, "pr_share": 0.25, "estimator": estimator}
    trainer = sail_trainer(
        tmp_path, load, tokenizer, rows(16), preference=longest, per_device_train_batch_size=16, **shares
    )
    perturb(trainer.model, scale=0.05)
    batch = first_batch(trainer)
    loss = trainer._compute_loss(trainer.model, batch, False).item()
    sums = logps(trainer.model, batch).sum(1)
    lp_1, lp_2 = sums.chunk(2)
    r_1, r_2 = 0.3 * (lp_1 - batch["ref_chosen_logps"]), 0.3 * (lp_2 - batch["ref_rejected_logps"])
    own = torch.sigmoid(r_1 - r_2)
    self_labelled = batch["route"] < 2
    first = torch.where(self_labelled, batch["draw"] < own, batch["label"] > 0.5)
    assert 0 < first.sum() < 16
    chosen, rejected = torch.where(first, r_1, r_2), torch.where(first, r_2, r_1)
    by_hand = [
        *(chosen, rejected, chosen - rejected, (chosen > rejected).float()),
        *(torch.where(first, lp_1, lp_2), torch.where(first, lp_2, lp_1)),
    ]
    assert [last(trainer)[n] for n in PAIRS] == pytest.approx([float(v.mean()) for v in by_hand], rel=1e-3, abs=1e-4)
    p = torch.where(self_labelled, own, first.float()) if estimator == "rao-blackwell" else first.float()
    up, down = (torch.nn.functional.softplus(sign * (r_1 - r_2)) for sign in (-1, 1))
    assert loss == pytest.approx(float((p * up + (1 - p) * down).mean()), rel=1e-4)


@pytest.mark.parametrize("kind", ["bt", "cdpo", "hinge", "ipo", "simpo"])
@pytest.mark.parametrize("stored", [False, True], ids=["referred", "stored"])
def test_evaluation_uses_the_trained_loss(tmp_path: Path, load: Load, tokenizer: Any, kind: str, stored: bool) -> None:
    """The mean over an uneven data set, pair by pair on plain forwards, with online routes in training."""
    beta, extra = {"ipo": (0.3, {}), "simpo": (2.0, {"simpo_gamma": 0.4})}.get(kind, (0.3, {}))
    if kind == "cdpo":
        extra = {"label_smoothing": 0.1}
    trainer = sail_trainer(
        tmp_path, load, tokenizer, rows(), pair_loss=kind, beta=beta, pr_share=0.5, preference=longest, **extra,
        eval_dataset=held_out(), per_device_eval_batch_size=4, precompute_ref_log_probs=stored,
    )  # fmt: skip
    perturb(trainer.model)
    result = trainer.evaluate()
    reference, phi, margins = load(), [], []
    for row in held_out():
        both = []
        for answer in (row["chosen_ids"], row["rejected_ids"]):
            ids = torch.tensor([row["prompt_ids"] + answer])
            mask = torch.tensor([[0] * len(row["prompt_ids"]) + [1] * len(answer)])
            one = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": mask}
            lp, ref = (float(logps(model, one).sum()) for model in (trainer.model, reference))
            both.append((lp, ref, len(answer)))
        (lp_1, ref_1, n_1), (lp_2, ref_2, n_2) = both
        u = torch.tensor(beta * ((lp_1 - ref_1) - (lp_2 - ref_2)))
        mean = (lp_1 - ref_1) / n_1 - (lp_2 - ref_2) / n_2
        bt = torch.nn.functional.softplus
        phi.append({
            "bt": bt(-u), "cdpo": 0.9 * bt(-u) + 0.1 * bt(u), "hinge": torch.relu(1 - u),
            "ipo": torch.tensor((mean - 1 / 0.6) ** 2), "simpo": bt(torch.tensor(0.4 - 2 * (lp_1 / n_1 - lp_2 / n_2))),
        }[kind])  # fmt: skip
        margins.append(2 * (lp_1 / n_1 - lp_2 / n_2) if kind == "simpo" else float(u))
    assert result["eval_loss"] == pytest.approx(float(torch.stack(phi).mean()), rel=1e-4)
    batches = (sum(margins[:4]) / 4, sum(margins[4:]) / 2)  # TRL's metrics are means of the batches' means
    row = next(row for row in trainer.state.log_history if "eval_loss" in row)
    assert row["eval_rewards/margins"] == pytest.approx(sum(batches) / 2, rel=1e-3, abs=1e-4)
    assert {f"eval_{n}" for n in (*PAIRS, *TOKENS)} <= set(row)


def test_the_reference_that_is_synchronised_is_used(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """After a step the reference is the policy: the next step's rewards are 0, whatever the data store."""
    data = [row | {"ref_chosen_logps": -1.0, "ref_rejected_logps": -2.0} for row in rows()]
    trainer = sail_trainer(
        tmp_path, load, tokenizer, data, sync_ref_model=True, ref_model_sync_steps=1, ref_model_mixup_alpha=1.0,
        max_steps=2, pr_share=0.4, preference=longest,
    )  # fmt: skip
    perturb(trainer.model)
    trainer.train()
    first, second = trainer.state.log_history[:2]
    assert abs(first["rewards/chosen"]) > 0.01
    assert second["rewards/chosen"] == pytest.approx(0, abs=1e-4)
    assert second["loss"] == pytest.approx(0.693147, abs=1e-4)


def test_llama_4_trains_as_its_forward_says(tmp_path: Path, tokenizer: Any) -> None:
    """Transformers names a part of it that it has not, where TRL's fused LM head looks for the backbone."""
    with pytest.warns(UserWarning, match="TRL has no load-balancing loss for Llama4ForCausalLM"):
        trainer = sail_trainer(tmp_path, lambda: random_model("Llama4", vocab_size=261), tokenizer, rows())
    batch = first_batch(trainer)
    trainer._compute_loss(trainer.model, batch, False)
    plain = random_model("Llama4", vocab_size=261)
    assert last(trainer)["logps/chosen"] == pytest.approx(float(logps(plain, batch)[:4].sum(1).mean()), rel=1e-4)


def test_the_auxiliary_loss_of_a_mixture_of_experts_is_trls(tmp_path: Path, tokenizer: Any) -> None:
    """Loss, log, gradients and evaluation, for SAIL without shares and for a method of ours; the router learns."""
    from transformers import MixtralConfig, MixtralForCausalLM

    def load() -> Any:
        settings = MixtralConfig(
            vocab_size=261, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, num_local_experts=4, router_aux_loss_coef=0.05, output_router_logits=True,
            eos_token_id=256, pad_token_id=257, bos_token_id=None,
        )  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return MixtralForCausalLM(settings)

    results = []
    dpo = RDPO(RDPOConfig(flip_rate=0.0)).loss(0.3)
    for trainer in (
        dpo_trainer(tmp_path, load, tokenizer, rows(), max_steps=2, per_device_eval_batch_size=4),
        sail_trainer(tmp_path, load, tokenizer, rows(), max_steps=2, per_device_eval_batch_size=4),
        pair_trainer(tmp_path, load, tokenizer, pair_loss=dpo),
    ):
        perturb(trainer.model)
        trainer.train()
        trainer.evaluate(held_out())
        logs = [row for row in trainer.state.log_history if "loss" in row or "eval_loss" in row]
        results.append((logs, trainer.model))
    for log, model in results[1:]:
        assert len(log) == 3
        for ours, stock in zip(log, results[0][0], strict=True):
            for name in ("eval_loss", "eval_aux_loss") if "eval_loss" in stock else ("loss", "aux_loss", "grad_norm"):
                assert ours[name] == pytest.approx(stock[name], rel=1e-4)
        for a, b in zip(model.parameters(), results[0][1].parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=3e-4)
    assert results[0][0][0]["aux_loss"] > 0.1
