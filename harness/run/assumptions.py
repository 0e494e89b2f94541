"""What a prediction assumes, in words."""

from __future__ import annotations

from harness.budget.device_time import utilisation
from harness.budget.forecast import ANSWER_SHARE
from harness.run.estimate import Estimate
from harness.run.outline import Outline
from harness.run.workload import CALL_SECONDS


def assumptions(predicted: Estimate, outline: Outline) -> list[str]:
    """What a prediction assumes.

    Args:
        predicted: the prediction.
        outline: what it is of.
    """
    device, settings, money = predicted.machine.device, predicted.settings, predicted.money
    lengths = outline.pairs.lengths
    parts = [
        f"{outline.pairs.number:,} pairs, {lengths.prompt:.0f} tokens a prompt and {lengths.response:.0f} an answer",
        *outline.assumed,
        f"answers at {ANSWER_SHARE:.0%} of their longest until some are here (money and disk: at their longest)",
    ]
    if predicted.wall is not None:
        learned = predicted.machine.here and any(outline.corrections(row.name).rates for row in outline.rows)
        if learned:
            parts.append("training at the speed that earlier runs here had")
        else:
            peak = device.peak(settings.number.compute, settings.tf32)
            parts.append(f"training at {utilisation(device):.0%} of {peak / 1e12:.3g} TFLOP/s, right within a factor 2")
        engine = outline.recipe.engine.name
        parts.append(f"answers sampled by {engine}, {outline.recipe.generation_batch_size} answers at once")
    if predicted.peaks:
        recomputed = "with" if settings.gradient_checkpointing else "without"
        parts.append(
            f"{settings.precision}, {recomputed} gradient checkpointing, {settings.optim}, one policy in memory"
        )
    if predicted.calls.get("judge"):
        parts.append(f"{CALL_SECONDS:g} s a judge call")
    if "devices" in money.parts:
        parts.append(f"{money.currency} {money.hour:g} a device hour ({money.source}) for all devices, start to end")
    return parts
