"""Step time of SAIL-DP against TRL's DPOTrainer on the same batches (SmolLM2, LoRA).

Run: ``python -m harness.bench.overhead [MODEL] [ROUNDS]``. Prints one JSON line. The two trainers take turns, batch by
batch, so that a busy machine slows both; the ratio is the median over batches.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness.models import build_start
from harness.policy import load_model, load_tokenizer
from harness.recipe import LoraSpec
from harness.store import Store

PAIRS, PROMPT, ANSWER = 8, 50, 32


def pairs(vocabulary: int, eos: int, count: int) -> list[dict[str, Any]]:
    """Pairs of random ids with the lengths that the smollm2 recipe sees on average."""
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


def measure(model: str, rounds: int) -> dict[str, Any]:
    """Median step seconds of both trainers, and the median of the ratios."""
    from datasets import Dataset
    from trl import DPOConfig

    from harness.training import lora_config
    from sail.config import SAILConfig, cpu_arguments
    from sail.trainer import SAILTrainer, TokenisedDPOTrainer

    with tempfile.TemporaryDirectory() as scratch:
        start = build_start(model, Store(Path(scratch)))
        tokenizer = load_tokenizer(start)
        data = Dataset.from_list(pairs(len(tokenizer), tokenizer.eos_token_id, PAIRS * rounds))
        common: dict[str, Any] = {
            "output_dir": scratch,
            "per_device_train_batch_size": PAIRS,
            "max_steps": rounds,
            "report_to": "none",
            "disable_tqdm": True,
            "precompute_ref_log_probs": True,
            "max_length": None,
            "dataloader_pin_memory": False,
            **cpu_arguments(),
        }
        trainers = []
        for kind, args in (
            (TokenisedDPOTrainer, DPOConfig(**common)),
            (SAILTrainer, SAILConfig(**common, dp_share=0.4, dp_coef=0.2)),
        ):
            policy = load_model(start)
            trainer = kind(
                model=policy,
                args=args,
                train_dataset=data if kind is SAILTrainer else data.remove_columns("example_id"),
                processing_class=tokenizer,
                peft_config=lora_config(LoraSpec(layers=8), policy),
            )
            trainer.create_optimizer()
            trainer.current_gradient_accumulation_steps = 1
            trainers.append(trainer)
        seconds: list[list[float]] = [[], []]
        batches = zip(*(list(t.get_train_dataloader()) for t in trainers), strict=True)
        for place, both in enumerate(batches):
            order = (0, 1) if place % 2 == 0 else (1, 0)
            for which in order:
                spent = step(trainers[which], both[which])
                if place:  # the first round warms up
                    seconds[which].append(spent)
    ratios = [b / a for a, b in zip(*seconds, strict=True)]
    return {
        "model": model,
        "rounds": rounds - 1,
        "dpo_seconds": round(statistics.median(seconds[0]), 3),
        "sail_dp_seconds": round(statistics.median(seconds[1]), 3),
        "ratio": round(statistics.median(ratios), 3),
    }


if __name__ == "__main__":
    arguments = sys.argv[1:]
    print(json.dumps(measure(arguments[0] if arguments else "smollm2", int(arguments[1]) if arguments[1:] else 13)))
