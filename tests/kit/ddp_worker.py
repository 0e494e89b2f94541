"""One process of several SAIL training runs, one after the other, for the invariance tests."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Train each run of a JSON file; the main process writes losses and weights of each.

    argv: folder of the tiny model; a JSON list of runs: an output folder ``out``, a number of pairs ``count``, and the
    ``settings`` that change SAILConfig.
    """
    import torch

    from harness.answer.load import load_model, load_tokenizer
    from kit.training import longest, rows, sail_trainer

    tiny, runs = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(tiny)
    for run in runs:
        out, data = Path(run["out"]), rows(run["count"])
        trainer = sail_trainer(
            out / "run", lambda: load_model(tiny), tokenizer, data, preference=longest, **run["settings"]
        )
        trainer.train()
        if trainer.accelerator.is_main_process:
            losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
            (out / "losses.json").write_text(json.dumps(losses))
            model = trainer.accelerator.unwrap_model(trainer.model)
            torch.save({n: p.detach() for n, p in model.named_parameters()}, out / "w.pt")
    # Gloo's threads may hold tensors while the interpreter ends, and then abort it (pytorch/pytorch pull 179291).
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
