"""The methods' losses against TRL's own implementations, closed forms, and plain forwards on the tiny model."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from kit.training import arguments, dpo_trainer, longest, perturb, rows, sail_trainer
from trl import DPOConfig

from harness.errors import UserError
from harness.methods.base import Method, PairMethod
from harness.methods.cdpo import CDPO
from harness.methods.hinge import Hinge
from harness.methods.ipo import IPO, IPOConfig
from harness.methods.rdpo import RDPO, RDPOConfig
from harness.methods.sail import SAILOptions
from harness.methods.sail_dp import SAILDP
from harness.methods.sail_pp import SAILPP
from harness.methods.sail_pr import SAILPR
from harness.methods.shuffled import swapped
from harness.methods.simpo import SimPO
from harness.run import plugins as registry
from harness.train.losses import kto, log1mexp, odds_ratio, reference_point, robust, sft
from harness.train.pair_trainers import PairKTOTrainer, PairTrainer
from sail.losses import Sides

Load = Callable[[], Any]
N = 6


def sides(seed: int = 0, dtype: torch.dtype = torch.float64) -> Sides:
    """Random log-probabilities of completions of 3 to 12 tokens, with gradient on the policy's."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [torch.randint(3, 13, (N,), generator=generator).to(dtype) for _ in range(2)]
    values = [-(0.3 + 2 * torch.rand(N, generator=generator, dtype=dtype)) * n for n in (*lengths, *lengths)]
    lp_1, lp_2 = (v.clone().requires_grad_() for v in values[:2])
    return Sides(lp_1, lp_2, values[2], values[3], *lengths)


def gradients(loss: torch.Tensor, s: Sides) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss.sum(), [s.lp_1, s.lp_2], allow_unused=True))


def assert_equal(ours: torch.Tensor, theirs: torch.Tensor, s: Sides) -> None:
    """Values and gradients to 1e-6."""
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    for a, b in zip(gradients(ours, s), gradients(theirs, s), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def stub(**settings: Any) -> SimpleNamespace:
    """What TRL's loss methods read of their trainer."""
    return SimpleNamespace(accelerator=SimpleNamespace(device="cpu"), **settings)


def test_orpo_equals_trl() -> None:
    """TRL returns lambda * log sigmoid(log odds), to be taken off the likelihood loss; it computes in float32."""
    from trl.experimental.orpo import ORPOTrainer

    s = sides(1, torch.float32)
    theirs = ORPOTrainer.odds_ratio_loss(stub(beta=0.3), s.lp_1 / s.len_1, s.lp_2 / s.len_2)[0]
    assert_equal(odds_ratio(s, 0.3), -s.lp_1 / s.len_1 - theirs, s)


def test_orpo_is_its_closed_form() -> None:
    s = sides(2)
    odds = [torch.exp(lp / n) / (1 - torch.exp(lp / n)) for lp, n in ((s.lp_1, s.len_1), (s.lp_2, s.len_2))]
    expected = -s.lp_1 / s.len_1 - 0.1 * torch.log(torch.sigmoid(torch.log(odds[0] / odds[1])))
    assert_equal(odds_ratio(s, 0.1), expected, s)


def test_log1mexp_near_zero_and_far() -> None:
    x = torch.tensor([-1e-9, -0.5, -0.7, -40.0], dtype=torch.float64, requires_grad=True)
    expected = [math.log(1e-9), math.log(1 - math.exp(-0.5)), math.log(1 - math.exp(-0.7)), -math.exp(-40)]
    assert log1mexp(x).tolist() == pytest.approx(expected, rel=1e-6)
    assert torch.autograd.grad(log1mexp(x).sum(), x)[0].isfinite().all()


def test_simpo_equals_trl() -> None:
    from trl.experimental.cpo import CPOTrainer

    s = sides(3)
    method = SimPO()
    beta, gamma = method.config.beta, method.config.beta * method.config.gamma_ratio
    trl = stub(alpha=0.0, beta=beta, simpo_gamma=gamma, label_smoothing=0.0, loss_type="simpo")
    theirs = CPOTrainer.cpo_loss(trl, s.lp_1 / s.len_1, s.lp_2 / s.len_2)[0]
    assert_equal(method.loss(0.1)(s), theirs, s)


def test_cdpo_is_its_closed_form() -> None:
    s = sides(4)
    u = 0.3 * ((s.lp_1 - s.ref_1) - (s.lp_2 - s.ref_2))
    expected = 0.9 * torch.nn.functional.softplus(-u) + 0.1 * torch.nn.functional.softplus(u)
    assert_equal(CDPO().loss(0.3)(s), expected, s)


def test_sft_and_kto_are_their_closed_forms() -> None:
    s = sides(5)
    torch.testing.assert_close(sft(s), -s.lp_1 / s.len_1)
    torch.testing.assert_close(gradients(sft(s), s)[0], -1 / s.len_1)
    kl = torch.tensor(0.7, dtype=torch.float64)
    value = 1.5 * (1 - torch.sigmoid(0.2 * (s.lp_1 - s.ref_1 - kl))) + 1 - torch.sigmoid(0.2 * (kl - s.lp_2 + s.ref_2))
    assert_equal(kto(s, 0.2, kl, desirable=1.5), value / 2, s)
    assert float(reference_point(torch.tensor([1.0, -4.0]), torch.tensor([0.0, 0.0]))) == 0.0


def test_robust_is_unbiased_for_clean_labels() -> None:
    """Flip the labels with the stated rate: the expectation is DPO's loss on the clean ones."""
    s = sides(6)
    swapped = Sides(s.lp_2, s.lp_1, s.ref_2, s.ref_1, s.len_2, s.len_1)
    expected = torch.nn.functional.softplus(-0.3 * ((s.lp_1 - s.ref_1) - (s.lp_2 - s.ref_2)))
    assert_equal(0.8 * robust(s, 0.3, 0.2) + 0.2 * robust(swapped, 0.3, 0.2), expected, s)


def pair_trainer(folder: Path, load: Load, tokenizer: Any, kind: Any = PairTrainer, **options: Any) -> Any:
    return kind(
        model=load(),
        ref_model=load(),
        args=DPOConfig(**arguments(folder)),
        train_dataset=Dataset.from_list(rows()).remove_columns("example_id"),
        processing_class=tokenizer,
        **options,
    )


def step(trainer: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the first batch at a policy away from the reference."""
    perturb(trainer.model)
    trainer.current_gradient_accumulation_steps = 1
    (batch,), items = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, trainer.args.device)
    if "ref_chosen_logps" not in batch:
        refs = trainer.compute_ref_log_probs(trainer.ref_model or trainer.model, batch)
        batch |= {"ref_chosen_logps": refs[0], "ref_rejected_logps": refs[1]}
    loss = trainer.training_step(trainer.model, batch, items)
    return float(loss), {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (Hinge(), {"loss_type": ["hinge"]}),
        (IPO(IPOConfig(tau=0.3)), {"loss_type": ["ipo"]}),
        (RDPO(RDPOConfig(flip_rate=0.2)), {"loss_type": ["robust"], "label_smoothing": 0.2}),
        (RDPO(RDPOConfig(flip_rate=0.0)), {"loss_type": ["sigmoid"]}),
    ],
    ids=["hinge", "ipo", "rdpo", "rdpo without flips is dpo"],
)
def test_our_trainer_equals_trls(
    tmp_path: Path, load: Load, tokenizer: Any, method: PairMethod, settings: dict[str, Any]
) -> None:
    """Loss and gradients of a whole step on the same ids at the same weights."""
    loss, grads = step(dpo_trainer(tmp_path, load, tokenizer, rows(), **settings))
    ours, own = step(pair_trainer(tmp_path, load, tokenizer, pair_loss=method.loss(0.3)))
    assert ours == pytest.approx(loss, rel=1e-5)
    for name, value in grads.items():
        torch.testing.assert_close(own[name], value, rtol=1e-4, atol=2e-5 * float(value.abs().max()))


def logps(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Summed completion log-probabilities by a plain forward."""
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    token = torch.log_softmax(logits, -1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
    return (token * batch["completion_mask"][:, 1:]).sum(1)


def test_sft_trains_on_the_chosen_rows_alone(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    trainer = pair_trainer(tmp_path, load, tokenizer, pair_loss=sft, chosen_only=True)
    seen: list[int] = []
    trainer.model.model.register_forward_pre_hook(lambda m, a, k: seen.append(len(k["input_ids"])), with_kwargs=True)
    (batch,), _ = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, trainer.args.device)
    batch |= {"ref_chosen_logps": torch.zeros(4), "ref_rejected_logps": torch.zeros(4)}
    loss = trainer._compute_loss(trainer.model, batch, False)
    assert seen == [4]
    expected = -(logps(trainer.model, batch)[:4] / batch["completion_mask"][:4, 1:].sum(1)).mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_kto_by_hand(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """Reference point from plain forwards of mismatched sequences, row by row; then the paper's formula."""
    trainer = pair_trainer(tmp_path, load, tokenizer, PairKTOTrainer, beta=0.2, desirable=1.0, undesirable=1.0)
    perturb(trainer.model)
    (batch,), _ = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, trainer.args.device)
    ref = logps(trainer.ref_model, batch)
    batch |= {"ref_chosen_logps": ref[:4], "ref_rejected_logps": ref[4:]}
    prompts, answers = [], []
    for ids, mask, completion in zip(
        batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True
    ):
        prompts.append(ids[(mask > 0) & (completion == 0)])
        answers.append(ids[completion > 0])
    gaps = []
    for i, prompt in enumerate(prompts):
        answer = answers[i - 1]
        one = {
            "input_ids": torch.cat([prompt, answer])[None],
            "attention_mask": torch.ones(1, len(prompt) + len(answer)),
            "completion_mask": torch.cat([torch.zeros(len(prompt)), torch.ones(len(answer))])[None],
        }
        gaps.append(float(logps(trainer.model, one) - logps(trainer.ref_model, one)))
    kl = max(0.0, sum(gaps) / 8)
    ratio = logps(trainer.model, batch) - ref
    expected = torch.cat([1 - torch.sigmoid(0.2 * (ratio[:4] - kl)), 1 - torch.sigmoid(0.2 * (kl - ratio[4:]))]).mean()
    assert float(trainer.reference_point(trainer.model, batch)) == pytest.approx(kl, rel=1e-4)
    assert float(trainer._compute_loss(trainer.model, batch, False)) == pytest.approx(float(expected), rel=1e-5)


def test_kto_needs_two_prompts_in_a_batch(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    with pytest.raises(UserError, match="batch_size of at least 2"):
        PairKTOTrainer(
            model=load(),
            ref_model=load(),
            args=DPOConfig(**arguments(tmp_path, per_device_train_batch_size=1)),
            train_dataset=Dataset.from_list(rows()).remove_columns("example_id"),
            processing_class=tokenizer,
            beta=0.1,
            desirable=1.0,
            undesirable=1.0,
        )


def test_online_dpo_is_dpo_on_the_sampled_pairs(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """Share 1 and c = 0: the loss and gradient of TRL's DPOTrainer on the very ids that were sampled and labelled."""
    online = sail_trainer(
        tmp_path, load, tokenizer, rows(), pr_share=1.0, pr_coef=0.0, preference=longest, max_new_tokens=6
    )
    perturb(online.model)
    online.current_gradient_accumulation_steps = 1
    (batch,), items = online.get_batch_samples(iter(online.get_train_dataloader()), 1, online.args.device)
    loss = float(online.training_step(online.model, dict(batch), items))
    data = []
    for i in range(4):
        prompt = batch["input_ids"][i][(batch["attention_mask"][i] > 0) & (batch["completion_mask"][i] == 0)].tolist()
        both = [batch["input_ids"][k][batch["completion_mask"][k] > 0].tolist() for k in (i, 4 + i)]
        first = bool(batch["label"][i] > 0.5)
        chosen, rejected = both if first else both[::-1]
        data.append({"example_id": i, "prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    stock = dpo_trainer(tmp_path, load, tokenizer, data)
    theirs, grads = step(stock)
    assert loss == pytest.approx(theirs, rel=1e-4)
    for name, parameter in online.model.named_parameters():
        torch.testing.assert_close(parameter.grad, grads[name], rtol=1e-3, atol=1e-4 * float(grads[name].abs().max()))


def test_labels_of_the_data_set_are_for_sail_dp() -> None:
    SAILDP(SAILOptions(labels="dataset"))
    for method in (SAILPP, SAILPR):
        with pytest.raises(UserError, match=f"{method.name}: labels: dataset is for sail-dp.*: leave it out"):
            method(SAILOptions(labels="dataset"))


def test_turned_pairs_are_whole() -> None:
    row = {"id": 1, "prompt_ids": [0], "chosen_ids": [1], "rejected_ids": [2], "ref_chosen_logps": 3.0,
           "ref_rejected_logps": 4.0, "chosen_reward": 5.0, "rejected_reward": 6.0}  # fmt: skip
    assert swapped(row) == {
        "id": 1, "prompt_ids": [0], "rejected_ids": [1], "chosen_ids": [2], "ref_rejected_logps": 3.0,
        "ref_chosen_logps": 4.0, "rejected_reward": 5.0, "chosen_reward": 6.0,
    }  # fmt: skip
    assert swapped(swapped(row)) == row


@pytest.mark.parametrize("name", sorted(registry.plugins("methods")))
def test_every_method_says_what_it_is(name: str) -> None:
    method = registry.load("methods", name)
    assert issubclass(method, Method)
    assert method.name == name
    assert method.summary
    assert method.published or name == "start"
    assert method.paper or name in ("start", "sft", "longer")
    assert set(method.Config.model_fields) == set(method().config.model_dump())


@pytest.mark.parametrize("name", sorted(n for n, p in registry.plugins("methods").items() if p.origin == registry.OURS))
def test_every_method_has_its_page(name: str) -> None:
    from conftest import ROOT

    page = (ROOT / "docs" / "methods.md").read_text()
    section = page.split(f"\n### {name}\n")[1].split("\n#")[0]
    paper = registry.load("methods", name).paper.removeprefix("arXiv:")
    assert paper in section
    assert len(section) > 60
