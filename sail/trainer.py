"""``SAILTrainer``: TRL's DPOTrainer with online and self-labelled pairs and the surrogate of spec 1.5."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState
from trl import DPOTrainer

from sail.config import SAILConfig
from sail.losses import PairLoss, margin, self_label, surrogate
from sail.noise import uniform
from sail.rollout import (
    DP,
    NAMES,
    OFF,
    PP,
    PR,
    Pair,
    Preference,
    Row,
    answered,
    baselines,
    extras,
    requests_for,
    route_of,
    row_phi,
    unpack,
)
from sail.sampling import sample

_EXTRA = ("route", "draw", "label", "online", "coefficient", "baseline", "weight", "example_id")


def score_completions_only() -> None:
    """Let TRL's fused LM head project completion tokens only on a CPU too.

    TRL 1.16 leaves the masked positions out on Triton devices and projects all of them elsewhere, for compilers that
    want constant shapes. On a CPU that is over half of a step. The values are the same; the kernel choice is untouched.
    """
    from trl.trainer import utils

    original = utils._use_triton
    if not getattr(original, "compacts_on_cpu", False):

        def compact(device: torch.device) -> bool:
            return device.type == "cpu" or bool(original(device))

        compact.compacts_on_cpu = True  # type: ignore[attr-defined]
        utils._use_triton = compact


class TokenisedDPOTrainer(DPOTrainer):  # type: ignore[misc]
    """TRL's DPOTrainer that trains on exactly the token ids it is given.

    A dataset with columns ``prompt_ids``, ``chosen_ids``, ``rejected_ids`` passes through untouched (the stock trainer
    would render and tokenise text again), and reference log-probabilities that are already there are not recomputed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        score_completions_only()
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        if "prompt_ids" in (dataset.column_names or []):
            return dataset
        return super()._prepare_dataset(dataset, processing_class, args, dataset_name)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        if "ref_chosen_logps" in dataset.column_names:
            return dataset
        return super()._precompute_ref_logps(dataset, name, batch_size)


class _KeepExample:
    """Collator that carries ``example_id`` through TRL's collator."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch: dict[str, Tensor] = self.inner(examples)
        batch["example_id"] = torch.tensor([e["example_id"] for e in examples])
        return batch


class LaggedBaseline(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Running means of phi by route; saved with the trainer state, so that a resumed run uses the same baseline."""

    def __init__(self, means: dict[str, float] | None = None) -> None:
        self.means = dict(means or {})
        self.sums: dict[int, list[float]] = {}

    def add(self, route: int, phi: float) -> None:
        """Note the phi of one pair of the current step."""
        self.sums.setdefault(route, []).append(phi)

    def close_step(self) -> dict[int, float]:
        """Means of the last step in which each route occurred."""
        self.means.update({NAMES[r]: sum(v) / len(v) for r, v in self.sums.items()})
        self.sums = {}
        return {r: self.means[n] for r, n in NAMES.items() if n in self.means}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """On a resume, take up the means that the checkpoint holds."""
        saved = state.stateful_callbacks.get(type(self).__name__) if state.global_step else None
        if saved:
            self.means = dict(saved["args"]["means"])

    def state(self) -> dict[str, Any]:
        """What transformers writes into ``trainer_state.json``."""
        self.close_step()
        return {"args": {"means": self.means}, "attributes": {}}


class SAILTrainer(TokenisedDPOTrainer):
    """Self-improving alignment on top of TRL's DPOTrainer (arXiv 2406.15567).

    Args:
        args: a :class:`SAILConfig`; its shares choose the routes, its coefficients weigh the added gradient.
        preference: labels sampled pairs of the PR route; called once a step with token ids.
        Everything else is DPOTrainer's. The dataset may be tokenised (``prompt_ids``, ``chosen_ids``,
        ``rejected_ids``, optional ``example_id`` and ``ref_*_logps``) or any form that DPOTrainer accepts.

    Raises:
        ValueError: if the PR route has a share but there is no ``preference``.
    """

    data_collator: Any
    _signature_columns: Any
    loss_is_scaled_for_ga = True
    _tag_names = ["trl", "sail"]

    def __init__(self, *args: Any, preference: Preference | None = None, **kwargs: Any) -> None:
        config = kwargs.get("args")
        if not isinstance(config, SAILConfig):
            raise TypeError("SAILTrainer needs args=SAILConfig(...)")
        if config.pr_share > 0 and preference is None:
            raise ValueError("pr_share > 0 needs preference=..., the function that labels sampled pairs")
        self.preference = preference
        self.lagged = LaggedBaseline()
        self.pair_loss = PairLoss(config.pair_loss, config.beta, config.label_smoothing)
        super().__init__(*args, **kwargs)
        self.data_collator = _KeepExample(self.data_collator)
        self.add_callback(self.lagged)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        dataset = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        if "example_id" not in dataset.column_names:
            dataset = dataset.add_column("example_id", list(range(len(dataset))))
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "example_id" not in self._signature_columns:
            self._signature_columns = [*self._signature_columns, "example_id"]

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """All micro-batches of an optimiser step, with online pairs sampled, labelled and given their baseline."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches:
            batches = self._roll_out(batches)
        return batches, items

    def _roll_out(self, batches: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        sizes = [len(b["example_id"]) for b in batches]
        rows = [row for batch in batches for row in self._rows(batch)]
        lagged = self.lagged.close_step()
        online = [i for i, row in enumerate(rows) if row.online]
        if online:
            for i, row in zip(online, self._online([rows[i] for i in online], lagged), strict=True):
                rows[i] = row
        missing = [i for i, row in enumerate(rows) if row.refs is None]
        if missing:
            with self._phase("reference"):
                for i, row in zip(missing, self._with_references([rows[i] for i in missing]), strict=True):
                    rows[i] = row
        if self.args.baseline == "loo":
            rows = [replace(r, baseline=lagged.get(DP, 0.0)) if r.route == DP else r for r in rows]
        weight = 1.0 / len(rows)
        out, start = [], 0
        for size in sizes:
            out.append(self._collate(rows[start : start + size], weight))
            start += size
        return out

    def _rows(self, batch: dict[str, Tensor]) -> list[Row]:
        step, seed = self.state.global_step, self.args.noise_seed
        refs: list[Any] = [None] * len(batch["example_id"])
        if "ref_chosen_logps" in batch:
            refs = list(zip(batch["ref_chosen_logps"].tolist(), batch["ref_rejected_logps"].tolist(), strict=True))
        return [
            Row(
                *fields,
                route=route_of(seed, fields[0], step, self.args.shares),
                draw=uniform((seed, fields[0], step, "label")),
                refs=ref,
            )
            for fields, ref in zip(unpack(batch), refs, strict=True)
        ]

    def _online(self, rows: list[Row], lagged: dict[int, float]) -> list[Row]:
        step, seed = self.state.global_step, self.args.noise_seed
        with self._phase("generate"):
            requests = [q for row in rows for q in requests_for(row, seed, step, self.args.max_new_tokens)]
            answers = sample(
                self.accelerator.unwrap_model(self.model),
                requests,
                eos_ids=self._eos_ids(),
                pad_id=self._tokenizer.pad_token_id,
                batch_size=self.args.generation_batch_size,
            )
        rows = [answered(row, (answers[2 * i], answers[2 * i + 1])) for i, row in enumerate(rows)]
        with self._phase("label"):
            rows = self._labelled(rows)
        with self._phase("reference"):
            rows = self._with_references(rows)
        self._log_online(answers)
        if self.args.baseline == "none":
            return rows
        b = baselines(row_phi(self.pair_loss, rows), [r.route for r in rows], lagged)
        return [replace(row, baseline=value) for row, value in zip(rows, b, strict=True)]

    def _labelled(self, rows: list[Row]) -> list[Row]:
        asked = [i for i, row in enumerate(rows) if row.route == PR]
        if not asked:
            return rows
        assert self.preference is not None
        pairs = [Pair(rows[i].example, rows[i].prompt, rows[i].first, rows[i].second) for i in asked]
        labels = list(self.preference(pairs))
        for i, p in zip(asked, labels, strict=True):
            hard = float(rows[i].draw < 0.5) if p == 0.5 else float(p)  # a tie is settled by the row's own noise
            rows[i] = replace(rows[i], label=hard)
        return rows

    def _with_references(self, rows: list[Row]) -> list[Row]:
        size = self.args.per_device_train_batch_size
        out: list[Row] = []
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            batch = self._prepare_inputs(self._pad(part))
            first, second = self.compute_ref_log_probs(self.ref_model or self.model, batch)
            refs = zip(first.tolist(), second.tolist(), strict=True)
            out += [replace(row, refs=ref) for row, ref in zip(part, refs, strict=True)]
        return out

    def _pad(self, rows: list[Row]) -> dict[str, Tensor]:
        examples = [{"prompt_ids": r.prompt, "chosen_ids": r.first, "rejected_ids": r.second} for r in rows]
        as_lists = [{k: list(v) for k, v in e.items()} for e in examples]
        batch: dict[str, Tensor] = self.data_collator.inner(as_lists)
        return batch

    def _collate(self, rows: list[Row], weight: float) -> dict[str, Tensor]:
        batch = self._pad(rows)
        batch["example_id"] = torch.tensor([r.example for r in rows])
        batch["ref_chosen_logps"] = torch.tensor([r.refs[0] for r in rows])  # type: ignore[index]
        batch["ref_rejected_logps"] = torch.tensor([r.refs[1] for r in rows])  # type: ignore[index]
        batch.update(extras(rows, self.args.coefs, weight, torch.device("cpu")))
        prepared: dict[str, Tensor] = self._prepare_inputs(batch)
        return prepared

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        if "route" not in inputs:
            return super()._compute_loss(model, {k: v for k, v in inputs.items() if k not in _EXTRA}, return_outputs)
        completion = inputs["completion_mask"]
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=inputs["input_ids"].masked_fill(completion == 0, -100),
            use_cache=False,
            fused_lm_head=True,
        )
        lp_1, lp_2 = outputs.log_probs[:, -(completion.shape[1] - 1) :].sum(1).chunk(2)
        refs = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        own = (inputs["route"] == PP) | ((inputs["route"] == DP) & (self.args.dp_labels == "self"))
        h = margin(lp_1, lp_2, *refs)
        label = torch.where(own, self_label(self.pair_loss, h, inputs["draw"]), inputs["label"])
        terms = surrogate(
            self.pair_loss,
            lp_1,
            lp_2,
            *refs,
            p_first=label,
            online=inputs["online"],
            self_labelled=own.float(),
            coefficient=inputs["coefficient"],
            baseline=inputs["baseline"],
        )
        self._log_step(inputs, h.detach(), terms.phi.detach(), label)
        loss = (inputs["weight"] * terms.loss).sum()
        return (loss, outputs) if return_outputs else loss

    def _log_step(self, inputs: dict[str, Tensor], h: Tensor, phi: Tensor, label: Tensor) -> None:
        log = self._metrics["train"]
        self._total_train_tokens += int(inputs["attention_mask"].sum())
        log["num_tokens"] = [self._total_train_tokens]
        u = self.pair_loss.beta * h
        signed = torch.where(label >= 0.5, u, -u)
        log["rewards/margins"].append(signed.mean().item())
        log["rewards/accuracies"].append((signed > 0).float().mean().item())
        log["abs_u"].append(u.abs().mean().item())
        for route in (OFF, DP, PP, PR):
            here = inputs["route"] == route
            log[f"share/{NAMES[route]}"].append(here.float().mean().item())
            for value in phi[here].tolist():
                self.lagged.add(route, value)

    def _log_online(self, answers: list[Any]) -> None:
        log = self._metrics["train"]
        log["generated/length"].append(sum(len(a.ids) for a in answers) / len(answers))
        log["generated/truncated"].append(sum(not a.stopped for a in answers) / len(answers))

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._metrics["train"][f"seconds/{name}"].append(time.perf_counter() - start)

    def _eos_ids(self) -> list[int]:
        configured = self.model.generation_config.eos_token_id
        if configured is None:
            configured = self._tokenizer.eos_token_id
        if configured is None:
            raise ValueError("the model has no end-of-sequence id: set tokenizer.eos_token or generation_config")
        return list(configured) if isinstance(configured, list | tuple) else [int(configured)]
