"""What SAIL costs a step, side by side in one run (LoRA on the top 8 layers, batches of 8 pairs).

Run: ``python -m tests.speed.overhead [MODEL] [ROUNDS] [COMPARISON...]``. Prints one JSON line for each comparison:

* ``dp``: a SAIL-DP step against TRL's DPOTrainer on the same batches;
* ``score``: a SAIL-PR step against the same step without baseline and score term, on the same sampled tokens;
* ``generation``: tokens a second sampled for SAIL-PR against TRL's OnlineDPOTrainer, same prompts, lengths and law.

The two sides take turns, round by round, so that a busy machine slows both; a ratio is the median over rounds.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.answer.chat import render
from harness.answer.load import load_model, load_tokenizer
from harness.answer.start_policy import build_start
from harness.pairs.prompts import splits
from harness.recipe.recipe import DataSpec
from harness.recipe.train import LoraSpec
from harness.store.stages import Store

PAIRS, PROMPT, ANSWER = 8, 50, 32


def pairs(vocabulary: int, eos: int, count: int) -> list[dict[str, Any]]:
    """Pairs of random ids with the lengths that the smollm2 recipe sees on average.

    Args:
        vocabulary: number of token ids.
        eos: id that ends an answer.
        count: number of pairs.
    """
    from sail.noise import generator

    rng = generator(("overhead", count))

    def ids(length: int) -> list[int]:
        return [int(i) for i in rng.integers(10, vocabulary, length)]

    return [
        {
            "example_id": i,
            "prompt_ids": ids(PROMPT),
            "chosen_ids": [*ids(ANSWER - 1), eos],
            "rejected_ids": [*ids(ANSWER - 1), eos],
            "ref_chosen_logps": -200.0,
            "ref_rejected_logps": -200.0,
        }
        for i in range(count)
    ]


def step(trainer: Any, batch: dict[str, Any]) -> float:
    """Seconds of one optimiser step on one collated batch: rollout, forward, backward, update."""
    began = time.perf_counter()
    (prepared,), items = trainer.get_batch_samples(iter([dict(batch)]), 1, trainer.args.device)
    trainer.training_step(trainer.model, prepared, items)
    trainer.optimizer.step()
    trainer.model.zero_grad()
    return time.perf_counter() - began


def take_turns(sides: Sequence[Callable[[int], float]], rounds: int) -> list[list[float]]:
    """What each side returns in each round, the first round left out; a round warms up on its batch, and the order
    alternates."""
    values: list[list[float]] = [[], []]
    for place in range(rounds):
        sides[0](place)  # the first run on a batch of a new shape is slower
        for which in (0, 1) if place % 2 == 0 else (1, 0):
            value = sides[which](place)
            if place:
                values[which].append(value)
    return values


def _summary(name: str, model: str, values: list[list[float]], labels: tuple[str, str], digits: int) -> dict[str, Any]:
    ratios = [b / a for a, b in zip(*values, strict=True)]
    first, second = (round(statistics.median(side), digits) for side in values)
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return {
        "comparison": name,
        "model": model,
        "rounds": len(ratios),
        labels[0]: first,
        labels[1]: second,
        "ratio": round(statistics.median(ratios), 3),
        "ratio_quartiles": [round(quartiles[0], 3), round(quartiles[2], 3)],
    }


class Bench:
    """The model, its tokenizer and the settings that all sides share."""

    def __init__(self, model: str, rounds: int, scratch: str) -> None:
        from sail.config import cpu_arguments

        self.name, self.rounds, self.scratch = model, rounds, scratch
        self.start = build_start(model, Store(Path(scratch)))
        self.tokenizer = load_tokenizer(self.start)
        self.data = pairs(len(self.tokenizer), self.tokenizer.eos_token_id, PAIRS * rounds)
        self.common: dict[str, Any] = {
            "output_dir": scratch,
            "per_device_train_batch_size": PAIRS,
            "max_steps": rounds,
            "report_to": "none",
            "disable_tqdm": True,
            "max_length": None,
            "dataloader_pin_memory": False,
            **cpu_arguments(),
        }

    def trainer(self, kind: Any, args: Any, **options: Any) -> Any:
        """A trainer on a fresh copy of the model, ready to step."""
        from datasets import Dataset

        from harness.train.settings import lora_config
        from sail.config import SAILConfig

        policy, data = load_model(self.start), Dataset.from_list(self.data)
        trainer = kind(
            model=policy,
            args=args,
            train_dataset=data if isinstance(args, SAILConfig) else data.remove_columns("example_id"),
            processing_class=self.tokenizer,
            peft_config=lora_config(LoraSpec(layers=min(8, policy.config.num_hidden_layers)), policy),
            **options,
        )
        trainer.create_optimizer()
        trainer.current_gradient_accumulation_steps = 1
        return trainer

    def steps(self, trainer: Any) -> Callable[[int], float]:
        """Seconds of the step of a round."""
        batches = list(trainer.get_train_dataloader())
        return lambda place: step(trainer, batches[place])


def dp(bench: Bench) -> dict[str, Any]:
    """SAIL-DP against TRL's DPOTrainer."""
    from trl import DPOConfig

    from sail.config import SAILConfig
    from sail.dpo import TokenisedDPOTrainer
    from sail.trainer import SAILTrainer

    common = bench.common | {"precompute_ref_log_probs": True}
    stock = bench.trainer(TokenisedDPOTrainer, DPOConfig(**common))
    ours = bench.trainer(SAILTrainer, SAILConfig(**common, dp_share=0.4, dp_coef=0.2))
    values = take_turns([bench.steps(stock), bench.steps(ours)], bench.rounds)
    return _summary("dp", bench.name, values, ("dpo_seconds", "sail_dp_seconds"), 3)


def switched_trainer(added: list[float]) -> Any:
    """A SAILTrainer class with a switch for baseline and score term.

    ``added`` gets what the two take, in seconds a step.
    """
    import torch

    from sail.losses import Sides, SurrogateTerms, labelled
    from sail.trainer import SAILTrainer

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
            began = time.perf_counter()
            terms = super()._surrogate(sides, inputs, label)
            leaf = replace(sides, **{k: getattr(sides, k).detach().requires_grad_() for k in ("lp_1", "lp_2")})
            both = [super()._surrogate(leaf, inputs, label), self.bare(leaf, label)]
            spent = []
            for one in both:
                start = time.perf_counter()
                torch.autograd.grad(one.loss.sum(), [leaf.lp_1, leaf.lp_2])
                spent.append(time.perf_counter() - start)
            added[-1] += time.perf_counter() - began - sum(spent) + max(0.0, spent[0] - spent[1])
            return terms

        def bare(self, sides: Sides, label: Any) -> SurrogateTerms:
            """The pair loss alone."""
            h = self.pair_loss.margin(sides)
            phi = labelled(self.pair_loss.phi(h), self.pair_loss.phi(-h), label)
            return SurrogateTerms(phi, phi, phi.detach(), phi.detach())

    return Switched


def score(bench: Bench) -> dict[str, Any]:
    """SAIL-PR with and without baseline and score term: one trainer, one model, one switch. Learning rate 0, so that
    both sample the same tokens.

    The two differ by less than a busy machine's noise, so the difference is also timed by itself: ``added_seconds`` is
    what the baselines take, and the surrogate with its backward to the log-probabilities beyond the bare pair loss.
    """
    from sail.config import SAILConfig

    added: list[float] = []
    args = bench.common | {"learning_rate": 0.0, "pr_share": 1.0, "pr_coef": 0.3, "max_new_tokens": ANSWER}
    trainer = bench.trainer(switched_trainer(added), SAILConfig(**args), preference=lambda pairs: [1.0] * len(pairs))
    run = bench.steps(trainer)

    def side(on: bool) -> Callable[[int], float]:
        def timed(place: int) -> float:
            trainer.on = on
            return run(place)

        return timed

    values = take_turns([side(False), side(True)], bench.rounds)
    summary = _summary("score", bench.name, values, ("without_seconds", "with_seconds"), 3)
    median = statistics.median(added)
    added_share = round(median / summary["without_seconds"], 5)
    return summary | {"added_seconds": round(median, 5), "added_share": added_share}


def generation(bench: Bench) -> dict[str, Any]:
    """Tokens a second: SAIL's rollout against ``OnlineDPOTrainer._generate``; T = 1, untruncated, two a prompt."""
    from datasets import Dataset
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    from harness.train.settings import lora_config
    from sail.config import SAILConfig
    from sail.pairs import StepPair
    from sail.routes import PR
    from sail.trainer import SAILTrainer

    parts = splits(DataSpec(train_prompts=PAIRS * bench.rounds, tune_prompts=1, eval_prompts=1, heldout_prompts=1))
    prompts = [[{"role": "user", "content": p["prompt"]}] for p in parts["train"]]
    ids = [tuple(render(bench.tokenizer, p)) for p in prompts]
    args = SAILConfig(**bench.common, pr_share=1.0, max_new_tokens=ANSWER)
    ours = bench.trainer(SAILTrainer, args, preference=lambda pairs: [1.0] * len(pairs))
    policy = load_model(bench.start)
    theirs = OnlineDPOTrainer(
        model=policy,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=OnlineDPOConfig(**(bench.common | {"max_length": 512}), max_new_tokens=ANSWER, temperature=1.0),
        train_dataset=Dataset.from_list([{"prompt": p} for p in prompts]),
        processing_class=bench.tokenizer,
        peft_config=lora_config(LoraSpec(layers=min(8, policy.config.num_hidden_layers)), policy),
    )

    def stock(place: int) -> float:
        began = time.perf_counter()
        mask = theirs._generate(theirs.model, prompts[place * PAIRS : (place + 1) * PAIRS])[3]
        return int(mask.sum()) / (time.perf_counter() - began)

    def own(place: int) -> float:
        some = range(place * PAIRS, (place + 1) * PAIRS)
        began = time.perf_counter()
        groups = ours._responses([StepPair(i, ids[i], (), (), PR, 0.5) for i in some])
        return sum(len(answer.ids) for group in groups for answer in group) / (time.perf_counter() - began)

    values = take_turns([stock, own], bench.rounds)
    return _summary("generation", bench.name, values, ("online_dpo_tokens_per_second", "sail_tokens_per_second"), 1)


COMPARISONS: tuple[Callable[[Bench], dict[str, Any]], ...] = (dp, score, generation)


def measure(model: str, rounds: int, only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The comparisons, one after the other.

    Args:
        model: as a recipe names it.
        rounds: of each comparison; the first one is left out.
        only: names of comparisons; all if empty.

    Returns:
        the JSON lines.
    """
    with tempfile.TemporaryDirectory() as scratch, redirect_stdout(sys.stderr):
        bench = Bench(model, rounds, scratch)
        return [comparison(bench) for comparison in COMPARISONS if not only or comparison.__name__ in only]


if __name__ == "__main__":
    arguments = sys.argv[1:]
    rounds = int(arguments[1]) if arguments[1:] else 13
    for line in measure(arguments[0] if arguments else "smollm2", rounds, arguments[2:]):
        print(json.dumps(line))
