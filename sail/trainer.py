"""``SAILTrainer``: TRL's DPOTrainer with online and self-labelled pairs and the surrogate of spec 1.5."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sail.callbacks import LaggedBaseline, StepClock, TermNorms, all_ranks
from sail.config import SAILConfig
from sail.data import by_strength, drop_near_ties, may_use_label
from sail.dpo import TokenisedDPOTrainer, pair_sides
from sail.generators import Generators
from sail.losses import (
    PairLoss,
    Routes,
    Sides,
    SurrogateTerms,
    official,
    rao_blackwell,
    reverse_kl,
    self_label,
    surrogate,
)
from sail.metrics import answer_metrics, pair_metrics, score_metrics
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
    flipped,
    hard_label,
    kl_baselines,
    requests_for,
    route_of,
    row_phi,
    source_of,
    unpack,
    within_prompt,
)
from sail.sampling import sample

_EXTRA = (
    "route",
    "draw",
    "label",
    "online",
    "coefficient",
    "baseline",
    "baseline_1",
    "baseline_2",
    "kl_baseline_1",
    "kl_baseline_2",
    "weight",
    "example_id",
)


class _KeepExample:
    """Collator that carries ``example_id`` through TRL's collator."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch: dict[str, Tensor] = self.inner(examples)
        batch["example_id"] = torch.tensor([e["example_id"] for e in examples])
        return batch


class SAILTrainer(TokenisedDPOTrainer):
    """Self-improving alignment on top of TRL's DPOTrainer (arXiv 2406.15567).

    Args:
        args: a :class:`SAILConfig`; its shares choose the routes, its coefficients weigh the added gradient.
        ref_model: the reference policy: the directory where it is saved, or a model in memory. Needed for full
            fine-tuning. With a new adapter (``peft_config``) it is the model with the adapter off; with a PeftModel,
            whose adapter is trained on, a frozen copy of that adapter.
        preference: labels sampled pairs of the PR route; called once a step with token ids.
        generator: the model of ``other_generator``.
        Everything else is DPOTrainer's. The dataset may be tokenised (``prompt_ids``, ``chosen_ids``,
        ``rejected_ids``, optional ``example_id`` and ``ref_*_logps``) or any form that DPOTrainer accepts.

    Raises:
        ValueError: a share without what it needs (``preference``, ``generator``), full fine-tuning without a
            reference, or online routes and a model without an end-of-sequence id.
    """

    data_collator: Any
    _signature_columns: Any
    loss_is_scaled_for_ga = True
    _tag_names = ["trl", "sail"]

    def __init__(
        self,
        model: Any = None,
        ref_model: Any = None,
        args: Any = None,
        *rest: Any,
        preference: Preference | None = None,
        generator: Any = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(args, SAILConfig):
            raise TypeError("SAILTrainer needs args=SAILConfig(...)")
        if args.pr_share > 0 and preference is None:
            raise ValueError("pr_share > 0 needs preference=..., the function that labels sampled pairs")
        if args.other_generator > 0 and generator is None:
            raise ValueError("other_generator > 0 needs generator=..., the model that samples")
        if isinstance(ref_model, str | Path):
            ref_model = load_reference(ref_model, model, args)
        if ref_model is None and not (_has_adapter(model) or kwargs.get("peft_config") or _needs_no_reference(args)):
            raise ValueError(
                "full fine-tuning needs ref_model=...: the directory where the start policy is saved, or a copy of it "
                "in memory (it is never guessed from the model's name); or train an adapter with peft_config=..."
            )
        self.preference = preference
        self.generators = Generators(generator, args.lag_steps if args.lagged_generator > 0 else 0)
        self.lagged, self.clock = LaggedBaseline(), StepClock(self._note)
        self.norms = TermNorms(args.term_norms_every)
        self.pair_loss = PairLoss(args.pair_loss, args.beta, args.label_smoothing, args.simpo_gamma)
        super().__init__(model, ref_model, args, *rest, **kwargs)
        if args.pp_share + args.pr_share > 0:
            self._eos_ids()
        self.data_collator = _KeepExample(self.data_collator)
        self.add_callback(self.lagged)
        self.add_callback(self.clock)

    def _note(self, name: str, value: float) -> None:
        self._metrics["train"][name].append(value)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        dataset = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        if "example_id" not in dataset.column_names:
            dataset = dataset.add_column("example_id", list(range(len(dataset))))
        if dataset_name == "train":
            dataset = self._selected(dataset, args)
        return dataset

    def _selected(self, dataset: Any, args: SAILConfig) -> Any:
        if args.min_strength > 0:
            dataset = drop_near_ties(dataset, args.min_strength)
        if args.curriculum != "none":
            dataset = by_strength(dataset, args.curriculum)
        if args.label_fraction < 1 and not any(args.shares):
            ids, seed = dataset["example_id"], int(args.noise_seed or 0)
            dataset = dataset.select([i for i, e in enumerate(ids) if may_use_label(seed, e, args.label_fraction)])
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
        self.generators.begin_step(self.accelerator.unwrap_model(self.model), self.state.global_step)
        drawn = self._weighted([self._rows(batch) for batch in batches])
        flat = [row for batch in drawn for row in batch]
        groups = self._online(flat)
        rows = [row for group in groups for row in group]
        missing = [i for i, row in enumerate(rows) if row.refs is None]
        if missing:
            with self.clock.phase("reference"):
                for i, row in zip(missing, self._with_references([rows[i] for i in missing]), strict=True):
                    rows[i] = row
        rows = self._with_baselines(rows)
        sizes, start, out = iter([len(group) for group in groups]), 0, []
        for batch in drawn:
            size = sum(next(sizes) for _ in batch)
            out.append(self._collate(rows[start : start + size]))
            start += size
        self._open = len(out)
        self.clock.start()
        return out

    def _weighted(self, batches: list[list[Row]]) -> list[list[Row]]:
        """Each pair of the global step weighs 1/N, times the number of ranks since their gradients are averaged.

        In the last batch of an epoch the sampler may repeat rows to fill the ranks: they weigh 0.
        """
        accelerator, size = self.accelerator, self.args.per_device_train_batch_size
        state = accelerator.gradient_state
        if state.end_of_dataloader and state.remainder > 0:
            first = accelerator.process_index * size
            batches[-1] = [
                row if first + place < state.remainder else replace(row, weight=0.0)
                for place, row in enumerate(batches[-1])
            ]
        total = sum(all_ranks(sum(row.weight for batch in batches for row in batch)))
        scale = accelerator.num_processes / total
        return [[replace(row, weight=row.weight * scale) for row in batch] for batch in batches]

    def _with_baselines(self, rows: list[Row]) -> list[Row]:
        """Baselines of phi and the log-ratio, by route over all ranks; DP, without a rollout, takes the lagged one."""
        if self.args.baseline == "none" or self.args.estimator == "official":
            return rows
        lagged = self.lagged.lagged
        own = [i for i, row in enumerate(rows) if row.on_policy and row.weight > 0]
        phi = row_phi(self.pair_loss, [rows[i] for i in own]).tolist() if own else []
        parts = all_ranks([(rows[i], p) for i, p in zip(own, phi, strict=True)])
        before = sum(len(part) for part in parts[: self.accelerator.process_index])
        everyone = [entry for part in parts for entry in part]
        of_phi = baselines([p for _, p in everyone], [row.route for row, _ in everyone], lagged)
        of_kl = kl_baselines([(row.example, row.samples, _log_ratios(row)) for row, _ in everyone])
        rows = [replace(r, baseline=lagged.get(r.route, 0.0)) if r.route != OFF else r for r in rows]
        for place, i in enumerate(own):
            b = of_phi[before + place]
            rows[i] = replace(rows[i], baseline=b, baselines=(b, b), kl_baselines=of_kl[before + place])
        if self.args.num_samples > 2:
            count = self.args.num_samples * (self.args.num_samples - 1) // 2
            for first in range(0, len(own), count):
                inside = within_prompt(phi[first : first + count], self.args.num_samples)
                for i, pair in zip(own[first : first + count], inside, strict=True):
                    rows[i] = replace(rows[i], baselines=pair)
        return rows

    def _rows(self, batch: dict[str, Tensor]) -> list[Row]:
        step, seed = self.state.global_step, self.args.noise_seed
        refs: list[Any] = [None] * len(batch["example_id"])
        if "ref_chosen_logps" in batch:
            refs = list(zip(batch["ref_chosen_logps"].tolist(), batch["ref_rejected_logps"].tolist(), strict=True))
        rows = []
        for fields, ref in zip(unpack(batch), refs, strict=True):
            example = fields[0]
            labelled = may_use_label(seed, example, self.args.label_fraction)
            rows.append(
                Row(
                    *fields,
                    route=route_of(seed, example, step, self.args.shares, labelled),
                    source=source_of(seed, example, step, self.args.generators),
                    draw=uniform((seed, example, step, "label")),
                    refs=ref,
                    label=flipped(1.0, uniform((seed, example, "flip")), self.args.flip_rate),
                )
            )
        return rows

    def _online(self, rows: list[Row]) -> list[list[Row]]:
        """Each row as the pairs that stand for it: itself, or the pairs of its freshly sampled responses."""
        groups = [[row] for row in rows]
        where = [i for i, row in enumerate(rows) if row.online]
        if not where:
            return groups
        step, seed, count = self.state.global_step, self.args.noise_seed, self.args.num_samples
        with self.clock.phase("generate"):
            answers = self._generate([rows[i] for i in where])
        flat: list[Row] = []
        for place, i in enumerate(where):
            groups[i] = answered(rows[i], answers[place * count : (place + 1) * count], seed, step)
            flat += groups[i]
        with self.clock.phase("label"):
            flat = self._labelled(flat)
        size = len(flat) // len(where)
        for place, i in enumerate(where):
            groups[i] = flat[place * size : (place + 1) * size]
        for name, value in answer_metrics(answers).items():
            self._note(name, value)
        return groups

    def _generate(self, rows: list[Row]) -> list[Any]:
        """K samples a row, in order; the rows of each generator in shared batches."""
        step, seed, args = self.state.global_step, self.args.noise_seed, self.args
        answers: dict[tuple[int, int], Any] = {}
        policy = self.accelerator.unwrap_model(self.model)
        reference = None if self.ref_model is None else self.accelerator.unwrap_model(self.ref_model)
        for source in sorted({row.source for row in rows}):
            mine = [i for i, row in enumerate(rows) if row.source == source]
            requests = [
                q
                for i in mine
                for q in requests_for(rows[i], seed, step, args.num_samples, self._room(rows[i]), args.temperature)
            ]
            with self.generators.model(source, policy, reference) as model:
                found = sample(
                    model,
                    requests,
                    eos_ids=self._eos_ids(),
                    pad_id=self._tokenizer.pad_token_id,
                    batch_size=args.generation_batch_size,
                )
            for place, i in enumerate(mine):
                for k in range(args.num_samples):
                    answers[i, k] = found[place * args.num_samples + k]
        return [answers[i, k] for i in range(len(rows)) for k in range(args.num_samples)]

    def _room(self, row: Row) -> int:
        """Tokens that a response to the row's prompt may have: the collator would cut what is beyond max_length."""
        if self.args.max_length is None:
            return int(self.args.max_new_tokens)
        room = min(self.args.max_new_tokens, self.args.max_length - len(row.prompt))
        if room < 1:
            raise ValueError(
                f"max_length={self.args.max_length} leaves no room for a response to a prompt of {len(row.prompt)} "
                "tokens: raise it, or leave such prompts out"
            )
        return int(room)

    def _labelled(self, rows: list[Row]) -> list[Row]:
        asked = [i for i, row in enumerate(rows) if row.route == PR]
        if not asked:
            return rows
        assert self.preference is not None
        pairs = [Pair(rows[i].example, rows[i].prompt, rows[i].first, rows[i].second) for i in asked]
        labels = list(self.preference(pairs))
        step, seed, rate = self.state.global_step, self.args.noise_seed, self.args.flip_rate
        for place, (i, p) in enumerate(zip(asked, labels, strict=True)):
            label = hard_label(float(p), rows[i].draw, self.args.labels)
            sub = place % (self.args.num_samples * (self.args.num_samples - 1) // 2)
            noise = uniform((seed, rows[i].example, step, "flip", sub))
            rows[i] = replace(rows[i], label=flipped(label, noise, rate))
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

    def _collate(self, rows: list[Row]) -> dict[str, Tensor]:
        batch = self._pad(rows)
        batch["example_id"] = torch.tensor([r.example for r in rows])
        batch["ref_chosen_logps"] = torch.tensor([r.refs[0] for r in rows])  # type: ignore[index]
        batch["ref_rejected_logps"] = torch.tensor([r.refs[1] for r in rows])  # type: ignore[index]
        batch.update(extras(rows, self.args.coefs, torch.device("cpu")))
        prepared: dict[str, Tensor] = self._prepare_inputs(batch)
        return prepared

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        if "route" not in inputs:
            return super()._compute_loss(model, {k: v for k, v in inputs.items() if k not in _EXTRA}, return_outputs)
        sides, outputs = pair_sides(model, inputs)
        own = self._self_labelled(inputs)
        h = self.pair_loss.margin(sides)
        label = torch.where(own, self_label(self.pair_loss, h, inputs["draw"]), inputs["label"])
        terms = self._surrogate(sides, inputs, label)
        loss = terms.loss
        if self.args.kl_penalty:
            loss = loss + self.args.kl_penalty * reverse_kl(
                sides, inputs["online"], inputs["kl_baseline_1"], inputs["kl_baseline_2"]
            )
        if self.args.u_penalty:
            elsewhere = (inputs["route"] != OFF).float()
            loss = loss + self.args.u_penalty * elsewhere * (self.pair_loss.beta * h).abs()
        self._log_step(inputs, sides, terms, label)
        total = (inputs["weight"] * loss).sum()
        if self.norms.due(self.state.global_step):
            self._log_norms(inputs, terms)
        return (total, outputs) if return_outputs else total

    def _surrogate(self, sides: Sides, inputs: dict[str, Tensor], label: Tensor) -> SurrogateTerms:
        """The terms of spec 1.5 by the chosen estimator."""
        routes = Routes(
            label,
            inputs["online"],
            self._self_labelled(inputs).float(),
            inputs["coefficient"],
            inputs["baseline"],
            inputs["baseline_1"],
            inputs["baseline_2"],
        )
        if self.args.estimator == "official":
            per_step = round(self.accelerator.num_processes / float(inputs["weight"].max()))
            return official(self.pair_loss, sides, routes, per_step)
        estimate = rao_blackwell if self.args.estimator == "rao-blackwell" else surrogate
        return estimate(self.pair_loss, sides, routes)

    def _self_labelled(self, inputs: dict[str, Tensor]) -> Tensor:
        own = inputs["route"] == PP
        return own | (inputs["route"] == DP) if self.args.dp_labels == "self" else own

    def _log_norms(self, inputs: dict[str, Tensor], terms: SurrogateTerms) -> None:
        added = inputs["weight"] * inputs["coefficient"]
        parts = {"t1": added * terms.response, "t2": inputs["weight"] * terms.phi, "t3": added * terms.label}
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.norms.add({name: value.sum() for name, value in parts.items()}, parameters)
        self._open -= 1
        if self._open == 0:
            for name, value in self.norms.take(self.accelerator).items():
                self._note(f"norm/{name}", value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As DPOTrainer's, with this trainer's step metrics taken over all ranks."""
        if self.accelerator.num_processes > 1:
            merged: dict[str, list[float]] = {}
            for part in all_ranks({name: list(values) for name, values in self._metrics["train"].items()}):
                for name, values in part.items():
                    merged.setdefault(name, []).extend(values)
            if "num_tokens" in merged:
                merged["num_tokens"] = [sum(merged["num_tokens"])]
            self._metrics["train"].update(merged)
        super().log(logs, start_time)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            self.generators.save(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.generators.load(Path(resume_from_checkpoint), self.accelerator.unwrap_model(self.model))

    def _log_step(self, inputs: dict[str, Tensor], sides: Sides, terms: SurrogateTerms, label: Tensor) -> None:
        log = self._metrics["train"]
        self._total_train_tokens += int(inputs["attention_mask"].sum())
        log["num_tokens"] = [self._total_train_tokens]
        found = pair_metrics(self.pair_loss, sides, label) | score_metrics(sides, terms.phi, inputs)
        for name, value in found.items():
            log[name].append(value)
        phi = terms.phi.detach()
        for route, name in NAMES.items():
            here = inputs["route"] == route
            log[f"share/{name}"].append(here.float().mean().item())
            for value in phi[here & (inputs["weight"] > 0)].tolist():
                self.lagged.add(route, value)

    def _eos_ids(self) -> list[int]:
        configured = self.model.generation_config.eos_token_id
        if configured is None:
            configured = self._tokenizer.eos_token_id
        if configured is None:
            raise ValueError(
                "the model has no end-of-sequence id, so no response could end: set tokenizer.eos_token, or "
                "eos_token_id in the model's generation_config"
            )
        return list(configured) if isinstance(configured, list | tuple) else [int(configured)]


def _log_ratios(row: Row) -> tuple[float, float]:
    """log pi / ref of the row's two sampled responses (nats)."""
    assert row.logps is not None
    assert row.refs is not None
    return (row.logps[0] - row.refs[0], row.logps[1] - row.refs[1])


def _has_adapter(model: Any) -> bool:
    return hasattr(model, "peft_config")


def _needs_no_reference(args: SAILConfig) -> bool:
    """Offline rows alone, whose reference log-probabilities are in the data."""
    return bool(args.precompute_ref_log_probs) and not any(args.shares)


def load_reference(folder: str | Path, model: Any, args: SAILConfig) -> Any:
    """The reference policy from the directory where it is saved, in the policy's dtype.

    Raises:
        ValueError: the directory does not exist or holds no model.
    """
    from trl.trainer.utils import create_model_from_path

    if not (Path(folder) / "config.json").is_file():
        raise ValueError(f"ref_model={str(folder)!r} is no directory of a saved model (no config.json in it)")
    settings = dict(args.model_init_kwargs or {})
    if not isinstance(model, str | Path):
        settings |= {"dtype": model.dtype, "attn_implementation": model.config._attn_implementation}
    return create_model_from_path(str(folder), **settings)
