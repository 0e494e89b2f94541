"""One call that trains: data set, adapter, budget, checkpoints, resume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.store.json_files import read_json
from harness.train.checkpoints import LEDGER, newest_checkpoint, read_record, step_of
from harness.train.context import TrainContext
from harness.train.joint import of_first
from harness.train.schedule import set_schedule
from harness.train.settings import Policies, start_policies
from harness.train.stopping import BudgetCallback, Goal, check_budget, planned_steps


def check_finite(folder: Path) -> None:
    """Refuse a saved policy with weights that are not finite numbers.

    Raises:
        FloatingPointError: names the first such weight.
    """
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(str(file), "pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - safe_open is no dictionary
                if not bool(weights.get_tensor(name).isfinite().all()):
                    raise FloatingPointError(f"the trained weights are not finite numbers ({name})")


COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids", "ref_chosen_logps", "ref_rejected_logps")


def dataset(rows: Sequence[dict[str, Any]], file: Path) -> Any:
    """Pairs as a data set of token ids that is read from disk, with a row number that names each example.

    Args:
        rows: the pairs.
        file: written here, in Arrow's format.
    """
    from datasets import Dataset
    from datasets.arrow_writer import ArrowWriter

    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)  # an earlier attempt may have it in memory still
    with ArrowWriter(path=str(file)) as writer:
        for place, row in enumerate(rows):
            writer.write({"example_id": place, **{name: row[name] for name in COLUMNS if name in row}})
        writer.finalize()
    return Dataset.from_file(str(file))


def run_trainer(
    context: TrainContext,
    trainer_class: Any,
    args: Any,
    *,
    needs_reference: bool = True,
    rows: Sequence[dict[str, Any]] | None = None,
    policies: Policies | None = None,
    goal: Goal | None = None,
    steps: int | None = None,
    **options: Any,
) -> Path:
    """Train, or resume, within the budget and save the policy.

    Args:
        context: of the run.
        trainer_class: a subclass of TRL's ``DPOTrainer`` that takes token ids, such as ``SAILTrainer``.
        args: its configuration, made with :func:`harness.train.settings.arguments`.
        needs_reference: whether the reference has to be in memory; False if the data hold all its log-probabilities.
            It matters in full fine-tuning only: with an adapter the reference is the model without it.
        rows: pairs to train on; the stored pairs if None.
        policies: what training starts from; the start policy if None.
        goal: when training ends; at the end of the budget if None.
        steps: length of the learning rate's schedule; what the budget fixes, or is predicted to buy, if None.
        options: further arguments of ``trainer_class``; a ``SAILTrainer`` gets ``context.sampler`` beside them.

    Returns:
        the folder ``policy`` beside the checkpoints (``args.output_dir``).

    Raises:
        UserError: the budget cannot buy one step, or there are too few pairs for one batch.
        FloatingPointError: the loss is not a number.
    """
    from harness.answer.load import without_input_casts
    from sail import SAILTrainer

    if context.sampler is not None and issubclass(trainer_class, SAILTrainer):
        options = {"sampler": context.sampler} | options
    rows = context.pairs if rows is None else rows
    check_budget(context, rows)
    initial = policies or start_policies(context, reference=needs_reference)
    budget = BudgetCallback(context, goal or Goal(steps=planned_steps(context)), len(rows))
    trainer = trainer_class(
        model=initial.model,
        ref_model=initial.reference,
        args=args,
        train_dataset=dataset(rows, Path(args.output_dir) / f"pairs-{args.process_index}.arrow"),
        processing_class=context.tokenizer,
        peft_config=initial.peft_config,
        callbacks=[budget],
        **options,
    )
    without_input_casts(trainer.model, context.precision)
    if initial.adapter is not None:
        _load_adapter(trainer.model, initial.adapter)
    _write_no_cards(trainer)
    budget.save = trainer.save_model
    set_schedule(context, trainer, steps)
    history = _train_or_resume(context, trainer, budget)
    context.log.extend(row for row in history if "loss" in row)
    context.ledger.note_memory()
    folder = Path(args.output_dir).parent / "policy"
    trainer.save_model(str(folder))
    del trainer, budget, initial, policies
    free_memory()
    return folder


def free_memory() -> None:
    """Free what a training left: its trainer, model and callbacks refer to each other."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _load_adapter(model: Any, folder: Path) -> None:
    """Give the adapter that a trainer added the weights of a saved one."""
    from peft import load_peft_weights, set_peft_model_state_dict

    set_peft_model_state_dict(model, load_peft_weights(str(folder)))


def _train_or_resume(context: TrainContext, trainer: Any, budget: BudgetCallback) -> list[dict[str, float]]:
    """The log of a training that goes on from the newest checkpoint, if there is one."""
    last = of_first(lambda: newest_checkpoint(Path(trainer.args.output_dir)))
    if last is not None:
        context.ledger.restore(read_record(last / LEDGER) or {})
        budget.joint.begin()
        context.on_step(step_of(last))
    history: list[dict[str, float]]
    if last is not None and budget.finished():
        trainer._load_from_checkpoint(str(last))
        history = read_json(last / "trainer_state.json")["log_history"]
    else:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        history = trainer.state.log_history
    return history


def _write_no_cards(trainer: Any) -> None:
    """TRL and PEFT write a model card with each checkpoint, which takes longer than to save an adapter."""
    for owner, name in ((trainer, "create_model_card"), (trainer.model, "create_or_update_model_card")):
        if hasattr(owner, name):
            setattr(owner, name, lambda *_, **__: None)
