"""Training on sampled pairs: SAIL-PR against TRL's OnlineDPOTrainer, sampling within a step, and the score term."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.answer.load import load_model
from tests.speed.measure import Ratio, Setting, Side, by_turns, ratio_of, timed
from tests.speed.training import as_it_comes
from tests.speed.workbench import ANSWER, PROMPT, WORDS, Row, Workbench, seconds_of_steps


def sail_pr(setting: Setting) -> list[Ratio]:
    """SAIL-PR on sampled pairs alone (share 1) against OnlineDPOTrainer: two answers a prompt, all of the same length,
    at temperature 1; a reward that costs nothing. And the sampling in it alone, 4 prompts a step."""
    bench = Workbench(setting)
    ours, theirs = _sail_pr(bench, bench.arguments()), _online_dpo(bench)
    seconds, other = seconds_of_steps(ours), as_it_comes(bench, theirs, _batches(bench))
    rates: tuple[Side, Side] = (lambda i: bench.pairs / seconds(i), lambda i: bench.pairs / other(i))
    inside: tuple[Side, Side] = (_own_sampling(bench, ours), _their_sampling(bench, theirs))
    return [
        by_turns("SAIL-PR, pairs", "pairs a second", *rates, setting.repeats),
        by_turns("sampling in SAIL-PR, batch 4, K=2", "tokens a second", *inside, setting.repeats),
    ]


def _sail_pr(bench: Workbench, arguments: Row, kind: Any = None) -> Any:
    from sail.config import SAILConfig
    from sail.trainer import SAILTrainer

    args = SAILConfig(**arguments, pr_share=1.0, pr_coef=0.3, max_new_tokens=ANSWER)
    policy = bench.without_end(load_model(bench.start))
    preference = {"preference": lambda pairs: [1.0] * len(pairs)}
    return bench.trainer(kind or SAILTrainer, args, _rows(bench), policy, **preference)


def _online_dpo(bench: Workbench) -> Any:
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    args = OnlineDPOConfig(**bench.arguments(), max_new_tokens=ANSWER, temperature=1.0, missing_eos_penalty=None)
    rows = [{"prompt": text} for texts in _texts(bench) for text in texts]
    policy = bench.without_end(load_model(bench.start))
    return bench.trainer(OnlineDPOTrainer, args, rows, policy, reward_funcs=_no_reward)


def _no_reward(completions: Sequence[Any], **_: Any) -> list[float]:
    return [0.0] * len(completions)


def _texts(bench: Workbench) -> list[list[str]]:
    """Prompts of the steps, of about as many tokens as those of the other comparisons."""
    texts = []
    for i in range(bench.pairs * bench.steps):
        words = " ".join(WORDS[(7 * i + 3 * k + i * k) % len(WORDS)] for k in range(PROMPT))
        texts.append(bench.tokenizer.decode(bench.tokenizer(words, add_special_tokens=False)["input_ids"][:PROMPT]))
    return [texts[start : start + bench.pairs] for start in range(0, len(texts), bench.pairs)]


def _rows(bench: Workbench) -> list[Row]:
    """Our rows, with the tokens of the same prompts."""
    texts = [text for some in _texts(bench) for text in some]
    ids = [bench.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return [row | {"prompt_ids": prompt} for row, prompt in zip(bench.rows(), ids, strict=True)]


def _batches(bench: Workbench) -> list[Row]:
    return [{"prompt": texts} for texts in _texts(bench)]


def _own_sampling(bench: Workbench, trainer: Any) -> Side:
    from sail.pairs import StepPair
    from sail.routes import PR

    rows = _rows(bench)

    def side(place: int) -> float:
        some = rows[place * bench.pairs : (place + 1) * bench.pairs]
        pairs = [StepPair(row["example_id"], tuple(row["prompt_ids"]), (), (), PR, 0.5) for row in some]
        groups: list[list[Any]] = []
        seconds = timed(lambda: groups.extend(trainer._responses(pairs)))
        return sum(len(answer.ids) for group in groups for answer in group) / seconds

    return side


def _their_sampling(bench: Workbench, trainer: Any) -> Side:
    texts = _texts(bench)

    def side(place: int) -> float:
        masks: list[Any] = []
        with bench.stock():
            seconds = timed(lambda: masks.append(trainer._generate(trainer.model, texts[place])[3]))
        return int(masks[0].sum()) / seconds

    return side


def score_term(setting: Setting) -> list[Ratio]:
    """A step of SAIL-PR with baseline and score term against the same step without, on the same sampled tokens (the
    learning rate is 0); and what the two take, timed by themselves, as a share of the step without."""
    bench = Workbench(setting)
    added: list[float] = []
    trainer = _sail_pr(bench, bench.arguments(learning_rate=0.0), switched_trainer(added))
    run = seconds_of_steps(trainer)
    plain: list[float] = []

    def side(place: int, on: bool) -> float:
        trainer.on = on
        seconds = run(place)
        if place and not on:
            plain.append(seconds)
        return seconds

    sides: tuple[Side, Side] = (lambda place: side(place, True), lambda place: side(place, False))
    whole = by_turns("SAIL-PR step, with score term against without", "s", *sides, setting.repeats)
    return [whole, ratio_of("score term by itself, share of a step", "s", added[1:], plain)]


def switched_trainer(added: list[float]) -> Any:
    """A SAILTrainer class with a switch for baseline and score term.

    ``added`` gets what the two take, in seconds a step.
    """
    import torch

    from sail.losses import Sides, SurrogateTerms, labelled
    from sail.trainer import SAILTrainer

    def backward_seconds(terms: SurrogateTerms, leaf: Sides) -> float:
        return timed(lambda: torch.autograd.grad(terms.loss.sum(), [leaf.lp_1, leaf.lp_2]))

    class Switched(SAILTrainer):
        """With the switch off it is online DPO by the same rollout: the pair loss alone."""

        on = True

        def _with_baselines(self, pairs: list[Any]) -> list[Any]:
            if not self.on:
                return pairs
            began = time.perf_counter()
            pairs = super()._with_baselines(pairs)
            added.append(time.perf_counter() - began)
            return pairs

        def _surrogate(self, sides: Sides, inputs: dict[str, Any], label: Any) -> SurrogateTerms:
            if not self.on:
                return self.bare(sides, label)
            terms: list[SurrogateTerms] = []
            seconds = timed(lambda: terms.append(super(Switched, self)._surrogate(sides, inputs, label)))
            leaf = replace(sides, **{k: getattr(sides, k).detach().requires_grad_() for k in ("lp_1", "lp_2")})
            seconds += backward_seconds(super()._surrogate(leaf, inputs, label), leaf)
            seconds -= backward_seconds(self.bare(leaf, label), leaf)
            added[-1] += max(seconds, 0.0)
            return terms[0]

        def bare(self, sides: Sides, label: Any) -> SurrogateTerms:
            """The pair loss alone."""
            h = self.pair_loss.margin(sides)
            phi = labelled(self.pair_loss.phi(h), self.pair_loss.phi(-h), label)
            return SurrogateTerms(phi, phi, phi.detach(), phi.detach())

    return Switched
