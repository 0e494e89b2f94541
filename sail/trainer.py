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
from trl.trainer.utils import use_adapter

from sail.config import SAILConfig
from sail.data import by_strength, drop_near_ties, may_use_label
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
from sail.noise import uniform
from sail.rollout import (
    DP,
    LAGGED,
    NAMES,
    OFF,
    OTHER,
    PP,
    PR,
    START,
    Pair,
    Preference,
    Row,
    answered,
    baselines,
    extras,
    flipped,
    hard_label,
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
    "kl_baseline",
    "weight",
    "example_id",
)


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


def _all_ranks(value: Any) -> list[Any]:
    """The value of every process, in rank order."""
    from accelerate import PartialState
    from accelerate.utils import gather_object

    return list(gather_object([value])) if PartialState().num_processes > 1 else [value]


class LaggedBaseline(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Running means of phi by route; saved with the trainer state, so that a resumed run uses the same baseline."""

    def __init__(self, means: dict[str, float] | None = None) -> None:
        self.means = dict(means or {})
        self.sums: dict[int, list[float]] = {}

    def add(self, route: int, phi: float) -> None:
        """Note the phi of one pair of the current step."""
        self.sums.setdefault(route, []).append(phi)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the step's mean of each route, over all ranks, as the next step's lagged baseline."""
        merged: dict[int, list[float]] = {}
        for part in _all_ranks(self.sums):
            for route, values in part.items():
                merged.setdefault(route, []).extend(values)
        self.means.update({NAMES[r]: sum(v) / len(v) for r, v in merged.items()})
        self.sums = {}

    @property
    def lagged(self) -> dict[int, float]:
        """Means of the last step in which each route occurred."""
        return {r: self.means[n] for r, n in NAMES.items() if n in self.means}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """On a resume, take up the means that the checkpoint holds."""
        saved = state.stateful_callbacks.get(type(self).__name__) if state.global_step else None
        if saved:
            self.means = dict(saved["args"]["means"])

    def state(self) -> dict[str, Any]:
        """What transformers writes into ``trainer_state.json``."""
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

    def __init__(self, *args: Any, preference: Preference | None = None, generator: Any = None, **kwargs: Any) -> None:
        config = kwargs.get("args")
        if not isinstance(config, SAILConfig):
            raise TypeError("SAILTrainer needs args=SAILConfig(...)")
        if config.pr_share > 0 and preference is None:
            raise ValueError("pr_share > 0 needs preference=..., the function that labels sampled pairs")
        if config.other_generator > 0 and generator is None:
            raise ValueError("other_generator > 0 needs generator=..., the model that samples")
        self.preference, self.generator = preference, generator
        self._older: dict[str, Tensor] = {}
        self.lagged = LaggedBaseline()
        self.pair_loss = PairLoss(config.pair_loss, config.beta, config.label_smoothing, config.simpo_gamma)
        super().__init__(*args, **kwargs)
        self.data_collator = _KeepExample(self.data_collator)
        self.add_callback(self.lagged)

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
        if self.args.lagged_generator > 0 and (not self._older or self.state.global_step % self.args.lag_steps == 0):
            policy = self.accelerator.unwrap_model(self.model)
            self._older = {n: p.detach().clone() for n, p in policy.named_parameters() if p.requires_grad}
        drawn = self._weighted([self._rows(batch) for batch in batches])
        flat = [row for batch in drawn for row in batch]
        groups = self._online(flat)
        rows = [row for group in groups for row in group]
        missing = [i for i, row in enumerate(rows) if row.refs is None]
        if missing:
            with self._phase("reference"):
                for i, row in zip(missing, self._with_references([rows[i] for i in missing]), strict=True):
                    rows[i] = row
        rows = self._with_baselines(rows)
        sizes, start, out = iter([len(group) for group in groups]), 0, []
        for batch in drawn:
            size = sum(next(sizes) for _ in batch)
            out.append(self._collate(rows[start : start + size]))
            start += size
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
        total = sum(_all_ranks(sum(row.weight for batch in batches for row in batch)))
        scale = accelerator.num_processes / total
        return [[replace(row, weight=row.weight * scale) for row in batch] for batch in batches]

    def _with_baselines(self, rows: list[Row]) -> list[Row]:
        """Baselines of phi and the log-ratio, by route over all ranks; DP, without a rollout, takes the lagged one."""
        if self.args.baseline == "none" or self.args.estimator == "official":
            return rows
        lagged = self.lagged.lagged
        own = [i for i, row in enumerate(rows) if row.on_policy and row.weight > 0]
        phi = row_phi(self.pair_loss, [rows[i] for i in own]).tolist() if own else []
        parts = _all_ranks([(rows[i].route, p, _log_ratio(rows[i])) for i, p in zip(own, phi, strict=True)])
        before = sum(len(part) for part in parts[: self.accelerator.process_index])
        everyone = [entry for part in parts for entry in part]
        of_phi = baselines([p for _, p, _ in everyone], [route for route, _, _ in everyone], lagged)
        of_kl = baselines([k for _, _, k in everyone], [0] * len(everyone), {})
        rows = [replace(r, baseline=lagged.get(r.route, 0.0)) if r.route != OFF else r for r in rows]
        for place, i in enumerate(own):
            b = of_phi[before + place]
            rows[i] = replace(rows[i], baseline=b, baselines=(b, b), kl_baseline=of_kl[before + place])
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
        with self._phase("generate"):
            answers = self._generate([rows[i] for i in where])
        flat: list[Row] = []
        for place, i in enumerate(where):
            groups[i] = answered(rows[i], answers[place * count : (place + 1) * count], seed, step)
            flat += groups[i]
        with self._phase("label"):
            flat = self._labelled(flat)
        size = len(flat) // len(where)
        for place, i in enumerate(where):
            groups[i] = flat[place * size : (place + 1) * size]
        self._log_online(answers)
        return groups

    def _generate(self, rows: list[Row]) -> list[Any]:
        """K samples a row, in order; the rows of each generator in shared batches."""
        step, seed, args = self.state.global_step, self.args.noise_seed, self.args
        answers: dict[tuple[int, int], Any] = {}
        for source in sorted({row.source for row in rows}):
            mine = [i for i, row in enumerate(rows) if row.source == source]
            requests = [
                q for i in mine for q in requests_for(rows[i], seed, step, args.num_samples, args.max_new_tokens)
            ]
            with self._generator(source) as model:
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

    @contextmanager
    def _generator(self, source: int) -> Iterator[Any]:
        """The model that a source samples from, for the time of sampling."""
        policy = self.accelerator.unwrap_model(self.model)
        if source == OTHER:
            yield self.generator
        elif source == START and self.ref_model is not None:
            yield self.accelerator.unwrap_model(self.ref_model)
        elif source == START:
            with use_adapter(policy, adapter_name="ref" if "ref" in policy.peft_config else None):
                yield policy
        elif source == LAGGED:
            with self._older_weights(policy):
                yield policy
        else:
            yield policy

    @contextmanager
    def _older_weights(self, policy: Any) -> Iterator[None]:
        """The trainable weights of up to ``lag_steps`` steps ago, for the time of sampling."""
        trainable = {n: p for n, p in policy.named_parameters() if p.requires_grad}
        current = {n: p.detach().clone() for n, p in trainable.items()}
        with torch.no_grad():
            for name, parameter in trainable.items():
                parameter.copy_(self._older[name])
            yield
            for name, parameter in trainable.items():
                parameter.copy_(current[name])

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
        completion = inputs["completion_mask"]
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=inputs["input_ids"].masked_fill(completion == 0, -100),
            use_cache=False,
            fused_lm_head=True,
        )
        lp_1, lp_2 = outputs.log_probs[:, -(completion.shape[1] - 1) :].sum(1).chunk(2)
        lengths = completion[:, 1:].sum(1).to(lp_1.dtype).chunk(2)
        sides = Sides(lp_1, lp_2, inputs["ref_chosen_logps"], inputs["ref_rejected_logps"], *lengths)
        own = (inputs["route"] == PP) | ((inputs["route"] == DP) & (self.args.dp_labels == "self"))
        h = self.pair_loss.margin(sides)
        label = torch.where(own, self_label(self.pair_loss, h, inputs["draw"]), inputs["label"])
        routes = Routes(
            label,
            inputs["online"],
            own.float(),
            inputs["coefficient"],
            inputs["baseline"],
            inputs["baseline_1"],
            inputs["baseline_2"],
        )
        if self.args.estimator == "official":
            per_step = round(self.accelerator.num_processes / float(inputs["weight"].max()))
            terms = official(self.pair_loss, sides, routes, per_step)
        else:
            estimate = rao_blackwell if self.args.estimator == "rao-blackwell" else surrogate
            terms = estimate(self.pair_loss, sides, routes)
        loss = terms.loss
        if self.args.kl_penalty:
            loss = loss + self.args.kl_penalty * reverse_kl(sides, inputs["online"], inputs["kl_baseline"])
        if self.args.u_penalty:
            elsewhere = (inputs["route"] != OFF).float()
            loss = loss + self.args.u_penalty * elsewhere * (self.pair_loss.beta * h).abs()
        self._log_step(inputs, h.detach(), terms, label)
        self._log_score(inputs, sides, terms.phi.detach())
        total = (inputs["weight"] * loss).sum()
        return (total, outputs) if return_outputs else total

    def _log_step(self, inputs: dict[str, Tensor], h: Tensor, terms: SurrogateTerms, label: Tensor) -> None:
        log = self._metrics["train"]
        self._total_train_tokens += int(inputs["attention_mask"].sum())
        log["num_tokens"] = [self._total_train_tokens]
        u = self.pair_loss.beta * h
        signed = torch.where(label >= 0.5, u, -u)
        log["rewards/margins"].append(signed.mean().item())
        log["rewards/accuracies"].append((signed > 0).float().mean().item())
        log["abs_u"].append(u.abs().mean().item())
        s = torch.sigmoid(u)
        log["self_label_entropy"].append(-(s * s.log() + (1 - s) * (1 - s).log()).nan_to_num().mean().item())
        for route in (OFF, DP, PP, PR):
            here = inputs["route"] == route
            log[f"share/{NAMES[route]}"].append(here.float().mean().item())
            for value in terms.phi.detach()[here & (inputs["weight"] > 0)].tolist():
                self.lagged.add(route, value)

    def _log_score(self, inputs: dict[str, Tensor], sides: Sides, phi: Tensor) -> None:
        """KL estimate and the spread of the score term with and without its baseline, on on-policy pairs."""
        here = inputs["online"] > 0
        if int(here.sum()) < 2:
            return
        log, lp = self._metrics["train"], (sides.lp_1 + sides.lp_2).detach()[here]
        ratio = lp - (sides.ref_1 + sides.ref_2)[here]
        log["kl"].append((ratio / 2).mean().item())
        log["score/std"].append(((phi - inputs["baseline"])[here] * lp).std().item())
        log["score/std_no_baseline"].append((phi[here] * lp).std().item())

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


def _log_ratio(row: Row) -> float:
    """Mean log pi / ref of the row's two sampled responses (nats)."""
    assert row.logps is not None
    assert row.refs is not None
    return sum(lp - ref for lp, ref in zip(row.logps, row.refs, strict=True)) / 2
