"""One process of a SAIL training run for the invariance tests: settings as JSON in, losses and weights out."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """argv: folder of the tiny model, output folder, JSON of SAILConfig changes, number of pairs."""
    import torch

    from harness.answer.load import load_model, load_tokenizer
    from kit.training import longest, rows, sail_trainer

    tiny, out, changes, count = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    trainer = sail_trainer(
        out / "run", lambda: load_model(tiny), load_tokenizer(tiny), rows(count), preference=longest, **changes
    )
    trainer.train()
    if trainer.accelerator.is_main_process:
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        (out / "losses.json").write_text(json.dumps(losses))
        torch.save(
            {n: p.detach() for n, p in trainer.accelerator.unwrap_model(trainer.model).named_parameters()}, out / "w.pt"
        )
    # Gloo's threads may hold tensors while the interpreter ends, and then abort it (pytorch/pytorch pull 179291).
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
