"""Training steps on stored pairs, ours against TRL's trainers: same model, adapter, tokens and optimiser."""

from __future__ import annotations

from typing import Any

from tests.speed.measure import Ratio, Setting, Side, by_turns
from tests.speed.workbench import Row, Workbench, on_token_ids, seconds_of_steps

BETA, GAMMA_RATIO, ODDS_WEIGHT = 2.5, 0.5, 0.1
"""SimPO's scale and margin, ORPO's weight: the defaults of our methods."""


def dpo(setting: Setting) -> list[Ratio]:
    """The method ``dpo`` against TRL's DPOTrainer as it comes; both read the reference from the data."""
    from trl import DPOConfig

    from sail.dpo import TokenisedDPOTrainer

    bench = Workbench(setting)
    args = DPOConfig(**bench.arguments(), precompute_ref_log_probs=True)
    ours = bench.trainer(TokenisedDPOTrainer, args, _unnumbered(bench))
    return [by_turns("DPO step", "s", seconds_of_steps(ours), _stock_dpo(bench), setting.repeats)]


def sail_dp(setting: Setting) -> list[Ratio]:
    """The method ``sail-dp`` (share 0.4, coefficient 0.2) against TRL's DPOTrainer as it comes."""
    from sail.config import SAILConfig
    from sail.trainer import SAILTrainer

    bench = Workbench(setting)
    args = SAILConfig(**bench.arguments(), precompute_ref_log_probs=True, dp_share=0.4, dp_coef=0.2)
    ours = bench.trainer(SAILTrainer, args, bench.rows())
    return [by_turns("SAIL-DP step against DPO's", "s", seconds_of_steps(ours), _stock_dpo(bench), setting.repeats)]


def _unnumbered(bench: Workbench) -> list[Row]:
    return [{key: value for key, value in row.items() if key != "example_id"} for row in bench.rows()]


def _stock_dpo(bench: Workbench) -> Side:
    from trl import DPOConfig, DPOTrainer

    args = DPOConfig(**bench.arguments(), precompute_ref_log_probs=True)
    return as_it_comes(bench, bench.trainer(on_token_ids(DPOTrainer), args, _unnumbered(bench)))


def as_it_comes(bench: Workbench, trainer: Any, batches: list[Row] | None = None) -> Side:
    """Seconds of a step of a trainer of TRL's, without what our trainers change in TRL.

    Args:
        bench: that knows TRL as it was.
        trainer: ready to step.
        batches: one a repeat; those of its data set if None.
    """
    inner = seconds_of_steps(trainer, batches)

    def side(place: int) -> float:
        with bench.stock():
            return inner(place)

    return side


def simpo(setting: Setting) -> list[Ratio]:
    """The method ``simpo`` against TRL's CPOTrainer with SimPO's loss and no likelihood term."""
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    from harness.methods.simpo import SimPO

    bench = Workbench(setting)
    loss = {"loss_type": "simpo", "cpo_alpha": 0.0, "beta": BETA, "simpo_gamma": GAMMA_RATIO * BETA}
    theirs = _text_trainer(bench, CPOTrainer, CPOConfig(**bench.arguments(), **loss))
    return [by_turns("SimPO step", "s", _pair_method(bench, SimPO()), theirs, setting.repeats)]


def orpo(setting: Setting) -> list[Ratio]:
    """The method ``orpo`` against TRL's ORPOTrainer."""
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    from harness.methods.orpo import ORPO

    bench = Workbench(setting)
    theirs = _text_trainer(bench, ORPOTrainer, ORPOConfig(**bench.arguments(), beta=ODDS_WEIGHT))
    return [by_turns("ORPO step", "s", _pair_method(bench, ORPO()), theirs, setting.repeats)]


def _pair_method(bench: Workbench, method: Any) -> Side:
    """Steps of an offline method, by the trainer and with the arguments that it trains with."""
    from trl import DPOConfig

    from harness.train.pair_trainers import PairTrainer

    args = DPOConfig(**bench.arguments(), precompute_ref_log_probs=True)
    options = {"pair_loss": method.loss(0.1), "rewards": method.rewards(0.1), "chosen_only": method.chosen_only}
    return seconds_of_steps(bench.trainer(PairTrainer, args, _unnumbered(bench), **options))


def _text_trainer(bench: Workbench, kind: Any, args: Any) -> Side:
    """Steps of a trainer that takes texts, on batches by its own collator of the tokens that the other side gets."""
    trainer = bench.trainer(kind, args, [{"prompt": "one", "chosen": " two", "rejected": " three"}])
    rows, size = [_labelled(row) for row in bench.rows()], bench.pairs
    batches = [trainer.data_collator(rows[start : start + size]) for start in range(0, len(rows), size)]
    return as_it_comes(bench, trainer, batches)


def _labelled(row: Row) -> Row:
    """A pair as the collator of CPO and ORPO takes it."""
    prompt = row["prompt_ids"]
    out: Row = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
    for side in ("chosen", "rejected"):
        ids = prompt + row[f"{side}_ids"]
        out[f"{side}_input_ids"], out[f"{side}_attention_mask"] = ids, [1] * len(ids)
        out[f"{side}_labels"] = [-100] * len(prompt) + row[f"{side}_ids"]
    return out


def kto(setting: Setting) -> list[Ratio]:
    """The method ``kto`` against TRL's KTOTrainer, once as it comes and once with the reference computed before."""
    from trl import DPOConfig, KTOConfig, KTOTrainer

    from harness.train.pair_trainers import PairKTOTrainer

    bench = Workbench(setting)
    args = DPOConfig(**bench.arguments(), precompute_ref_log_probs=True)
    ours = bench.trainer(PairKTOTrainer, args, _unnumbered(bench), beta=0.1, desirable=1.0, undesirable=1.0)
    own_batches = list(ours.get_train_dataloader())
    ratios = []
    for name, precomputed in (("KTO step", False), ("KTO step, TRL's reference computed before", True)):
        changes = {"per_device_train_batch_size": 2 * bench.pairs, "precompute_ref_log_probs": precomputed}
        theirs = bench.trainer(on_token_ids(KTOTrainer), KTOConfig(**bench.arguments(**changes)), _unpaired(bench))
        sides = seconds_of_steps(ours, own_batches), as_it_comes(bench, theirs)
        ratios.append(by_turns(name, "s", *sides, setting.repeats if setting.quick else 4))
    return ratios


def _unpaired(bench: Workbench) -> list[Row]:
    """The pairs as KTO's rows, two a pair; a step has those of its pairs, each with the answer of its neighbour too."""
    pairs, out = bench.rows(), []
    for start in range(0, len(pairs), bench.pairs):
        some = pairs[start : start + bench.pairs]
        rows = [(row["prompt_ids"], row[f"{s}_ids"], s == "chosen") for s in ("chosen", "rejected") for row in some]
        for place, (prompt, answer, desirable) in enumerate(rows):
            ids = {"prompt_ids": prompt, "completion_ids": answer, "KL_completion_ids": rows[place - 1][1]}
            out.append(ids | {"label": desirable, "ref_logps": -200.0, "ref_KL_logps": -200.0})
    return out
