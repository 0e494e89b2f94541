"""``SAILTrainer``: TRL's DPOTrainer with online and self-labelled pairs and the surrogate of docs/sail.md.

Before an optimiser step it turns the data loader's batches into the pairs that the step trains on (``_roll_out``); in
the step it replaces DPO's loss by the surrogate (``_compute_loss``). The parts are in modules of their own:
:mod:`sail.routes`, :mod:`sail.batches`, :mod:`sail.rollout`, :mod:`sail.baselines` and :mod:`sail.losses`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sail.baselines import with_baselines
from sail.batches import CARRIED, COLUMNS, ExampleCollator, collated, padded, step_pairs, weighed
from sail.callbacks import LaggedBaseline, StepClock
from sail.card import PAPER
from sail.config import SAILConfig
from sail.data import columns_of, select_rows, with_example_ids
from sail.dpo import TokenisedDPOTrainer, pair_scores
from sail.generators import Generators
from sail.labels import TextPreference, reward_labeller, text_labeller, token_labeller
from sail.losses import (
    PairLoss,
    Routes,
    Sides,
    SurrogateTerms,
    margin_penalty,
    official,
    rao_blackwell,
    reverse_kl,
    self_label,
    surrogate,
)
from sail.metrics import (
    answer_metrics,
    label_metrics,
    reward_metrics,
    route_shares,
    score_metrics,
    token_metrics,
)
from sail.pairs import Preference, StepPair
from sail.ranks import join_metrics
from sail.reference import reads_reference, resolve_reference
from sail.rewards import ResponseRewards, RewardFunctions
from sail.rollout import labelled_by, pairs_of_samples, requests_for
from sail.routes import CURRENT, DP, OFF, PP, ROUTE_NAMES
from sail.sampling import Sampler, end_ids, sample
from sail.sharded import whole_weights
from sail.support import (
    check_columns,
    check_generator,
    check_labellers,
    check_reserved,
    check_rotary,
    check_sharding,
    reads_texts,
)
from sail.term_norms import TermNorms
from sail.types import Completion


class SAILTrainer(TokenisedDPOTrainer):
    """Self-improving alignment on top of TRL's DPOTrainer (arXiv 2406.15567).

    Args:
        args: a :class:`SAILConfig`; its shares choose the routes, its coefficients weigh the added gradient.
        ref_model: the reference policy: the directory where it is saved, or a model in memory. Needed for full
            fine-tuning, except where nothing reads it (SimPO's loss). With a new adapter (``peft_config``) it is the
            model with the adapter off; with a PeftModel, whose adapter is trained on, a frozen copy of that adapter.
        train_dataset: tokenised (``prompt_ids``, ``chosen_ids``, ``rejected_ids``, optional ``example_id`` and
            ``ref_*_logps``) or any form that DPOTrainer accepts, streams too; so may be ``eval_dataset``.
        preference: labels sampled pairs of the PR route, once a step: a function of token ids
            (:data:`sail.pairs.Preference`), or a :class:`TextPreference`.
        reward_funcs: label them instead, as in TRL's online trainers (:class:`sail.rewards.RewardFunctions`).
        reward_processing_classes: tokenizers of the reward models among them.
        generator: the model of ``other_generator``.
        sampler: samples the current policy's responses in place of :func:`sail.sampling.sample`, which the other
            generators keep.
        Everything else is DPOTrainer's.

    Raises:
        ValueError: a share without what it needs (``preference`` or ``reward_funcs``, ``generator``) or these without
            their share, a labeller or column that cannot serve, full fine-tuning
            without a reference, example ids that are no unique integers, online routes and a model without an
            end-of-sequence id, a ``max_length`` beyond which the model's rotary factors change, or FSDP1 and DeepSpeed
            with online routes.
    """

    data_collator: Any
    _signature_columns: Any
    loss_is_scaled_for_ga = True
    _tag_names = ["trl", "sail"]
    _name = "SAIL"
    _paper = PAPER

    def __init__(
        self,
        model: Any = None,
        ref_model: Any = None,
        args: Any = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        *rest: Any,
        preference: Preference | TextPreference | None = None,
        reward_funcs: Any = None,
        reward_processing_classes: Any = None,
        generator: Any = None,
        sampler: Sampler | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(args, SAILConfig):
            raise TypeError("SAILTrainer needs args=SAILConfig(...)")
        check_labellers(args, preference, reward_funcs, reward_processing_classes)
        check_generator(args, generator)
        check_sharding(args)
        self.reads_texts = reads_texts(preference, reward_funcs)
        if train_dataset is not None:
            if reward_funcs is not None:
                check_reserved(train_dataset)
            train_dataset = select_rows(self._identified(train_dataset, args, "train"), args)
        rewards = None if reward_funcs is None else RewardFunctions(reward_funcs, reward_processing_classes, args)
        ref_model = resolve_reference(ref_model, model, args, kwargs.get("peft_config"))
        self.sampler = sampler or sample
        self.generators = Generators(generator, args.lag_steps if args.lagged_generator > 0 else 0)
        self.lagged, self.clock = LaggedBaseline(), StepClock(self._record)
        self.norms = TermNorms(args.term_norms_every)
        self.pair_loss = PairLoss(args.pair_loss, args.beta, args.label_smoothing, args.simpo_gamma)
        self.reads_reference, precompute = reads_reference(args), args.precompute_ref_log_probs
        args.precompute_ref_log_probs = precompute or not self.reads_reference  # so that TRL loads no reference
        kwargs.setdefault("share_prompts", args.share_prompts)
        super().__init__(model, ref_model, args, data_collator, train_dataset, *rest, **kwargs)
        args.precompute_ref_log_probs = precompute
        check_rotary(self.model.config, args)
        self.precompute_ref_logps = precompute and self.reads_reference
        if args.pp_share + args.pr_share > 0:
            end_ids(self.model, self._tokenizer)
        self.labeller = self._labeller(preference, rewards)
        self.data_collator = ExampleCollator(self.data_collator, self.reads_texts)
        self.add_callback(self.lagged)
        self.add_callback(self.clock)

    def _labeller(self, preference: Preference | TextPreference | None, rewards: RewardFunctions | None) -> Any:
        """What labels pairs of the PR route, in its common form; None if nothing does."""
        if rewards is not None:
            rewards.prepare(self.accelerator, trainer_state=self.state, log_metric=self._record)
            return reward_labeller(rewards, self._tokenizer, self.args.labels, self._log_rewards)
        if isinstance(preference, TextPreference):
            return text_labeller(preference, self._tokenizer)
        return None if preference is None else token_labeller(preference)

    # The data set

    def _identified(self, dataset: Any, args: SAILConfig, name: str) -> Any:
        """The data set with an id in each row, checked."""
        check_columns(dataset, name, texts=self.reads_texts and name == "train")
        return with_example_ids(dataset, name, args.world_size * max(1, args.dataloader_num_workers))

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        dataset = self._identified(dataset, args, dataset_name)
        return super()._prepare_dataset(dataset, processing_class, args, dataset_name)

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        return super()._precompute_ref_logps(dataset, name, batch_size) if self.reads_reference else dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        more = ["example_id", *(columns_of(self.train_dataset) if self.reads_texts else ())]
        self._signature_columns += [name for name in more if name not in self._signature_columns]

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """As Trainer's, without the rows that only labelling reads."""
        prepared: dict[str, Any] = super()._prepare_inputs({k: v for k, v in inputs.items() if k != COLUMNS})
        return prepared

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> Any:
        """As DPOTrainer's, for batches of this trainer too."""
        return super().compute_ref_log_probs(model, {k: v for k, v in inputs.items() if k not in CARRIED})

    # Before a step: the pairs that it trains on

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """As Trainer's: the micro-batches of an optimiser step, here with online pairs sampled, labelled and given
        their baseline."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches:
            batches = self._roll_out(batches)
        return batches, items

    def _roll_out(self, batches: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        step, args = self.state.global_step, self.args
        self.generators.begin_step(self.accelerator.unwrap_model(self.model), step)
        taken = weighed(
            [step_pairs(batch, step, args) for batch in batches], self.accelerator, args.per_device_train_batch_size
        )
        with whole_weights((self.model, self.ref_model)):
            groups = self._with_samples([pair for batch in taken for pair in batch])
            pairs = self._with_references([pair for group in groups for pair in group])
        pairs = self._with_baselines(pairs)
        group_sizes, start, rolled_out = iter([len(group) for group in groups]), 0, []
        for batch in taken:
            end = start + sum(next(group_sizes) for _ in batch)
            rolled_out.append(self._prepare_inputs(collated(pairs[start:end], self.data_collator, args.coefs)))
            start = end
        self._unfinished_batches = len(rolled_out)
        self.clock.start()
        return rolled_out

    def _with_samples(self, pairs: Sequence[StepPair]) -> list[list[StepPair]]:
        """Each pair as those that stand for it: itself, or the labelled pairs of its freshly sampled responses."""
        groups, online = [[pair] for pair in pairs], [i for i, pair in enumerate(pairs) if pair.online]
        if not online:
            return groups
        step, args = self.state.global_step, self.args
        with self.clock.phase("generate"):
            answers = self._responses([pairs[i] for i in online])
        sampled = [
            new
            for i, group in zip(online, answers, strict=True)
            for new in pairs_of_samples(pairs[i], group, step, args.key_seed)
        ]
        with self.clock.phase("label"):
            sampled = labelled_by(self.labeller, sampled, step, args)
        for place, i in enumerate(online):
            groups[i] = sampled[place * args.pairs_per_prompt :][: args.pairs_per_prompt]
        for name, value in answer_metrics([answer for group in answers for answer in group]).items():
            self._record(name, value)
        return groups

    def _responses(self, pairs: Sequence[StepPair]) -> list[list[Completion]]:
        """The K sampled responses of each online pair; those from one source share batches."""
        responses: list[list[Completion]] = [[] for _ in pairs]
        count, policy = self.args.num_samples, self.accelerator.unwrap_model(self.model)
        reference = None if self.ref_model is None else self.accelerator.unwrap_model(self.ref_model)
        for source in sorted({pair.source for pair in pairs}):
            of_source = [i for i, pair in enumerate(pairs) if pair.source == source]
            requests = [r for i in of_source for r in requests_for(pairs[i], self.state.global_step, self.args)]
            # inside: autocast keeps casts of the weights, which the generator may change
            with self.generators.model(source, policy, reference) as model, self.accelerator.autocast():
                draw = self.sampler if source == CURRENT else sample
                completions = draw(
                    model,
                    requests,
                    eos_ids=end_ids(self.model, self._tokenizer),
                    pad_id=self._tokenizer.pad_token_id,
                    batch_size=self.args.generation_batch_size,
                )
            for place, i in enumerate(of_source):
                responses[i] = completions[place * count : (place + 1) * count]
        return responses

    def _with_references(self, pairs: list[StepPair]) -> list[StepPair]:
        """The pairs with the reference log-probabilities that are not stored with the data, or that have moved."""
        missing = [i for i, pair in enumerate(pairs) if pair.ref_logps is None or self.args.sync_ref_model]
        if not missing or not self.reads_reference:
            return pairs
        size, pairs = self.args.per_device_train_batch_size, list(pairs)
        with self.clock.phase("reference"):
            for start in range(0, len(missing), size):
                part = missing[start : start + size]
                batch = self._prepare_inputs(padded([pairs[i] for i in part], self.data_collator))
                first, second = self.compute_ref_log_probs(self.ref_model or self.model, batch)
                for i, both in zip(part, zip(first.tolist(), second.tolist(), strict=True), strict=True):
                    pairs[i] = replace(pairs[i], ref_logps=both)
        return pairs

    def _with_baselines(self, pairs: list[StepPair]) -> list[StepPair]:
        if self.args.baseline == "none" or self.args.estimator == "official":
            return pairs
        rank = self.accelerator.process_index
        return with_baselines(pairs, self.pair_loss, self.lagged.lagged, self.args.num_samples, rank)

    # In a step: the loss

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        if "route" not in inputs:  # evaluation, whose batches are not rolled out
            return self._evaluation_loss(model, {k: v for k, v in inputs.items() if k != "example_id"}, return_outputs)
        sides, outputs = pair_scores(model, inputs, self.aux_loss_enabled)
        h = self.pair_loss.margin(sides)
        drawn = self_label(self.pair_loss, h, inputs["draw"])
        label = torch.where(self._self_labelled(inputs), drawn, inputs["label"])
        terms = self._surrogate(sides, inputs, label)
        loss = terms.loss + self._penalties(sides, inputs) + self._aux_loss(outputs)
        self._log_step(inputs, sides, terms, label, outputs)
        total = (inputs["weight"] * loss).sum()
        if self.norms.due(self.state.global_step):
            self._log_norms(inputs, terms)
        return (total, outputs) if return_outputs else total

    def _penalties(self, sides: Sides, inputs: dict[str, Tensor]) -> Tensor | float:
        """What ``kl_penalty`` and ``u_penalty`` add to the loss of each pair."""
        total: Tensor | float = 0.0
        if self.args.kl_penalty:
            kl = reverse_kl(sides, inputs["online"], inputs["kl_baseline_1"], inputs["kl_baseline_2"])
            total = total + self.args.kl_penalty * kl
        if self.args.u_penalty:
            baselines = inputs["u_baseline_1"], inputs["u_baseline_2"]
            size = margin_penalty(self.pair_loss, sides, inputs["online"], *baselines)
            total = total + self.args.u_penalty * (inputs["route"] != OFF).float() * size
        return total

    def _evaluation_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        """Mean pair loss of a batch of the data set's pairs, at their labels."""
        if self.reads_reference and ("ref_chosen_logps" not in inputs or self.args.sync_ref_model):
            first, second = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
            inputs = inputs | {"ref_chosen_logps": first, "ref_rejected_logps": second}
        sides, outputs = pair_scores(model, inputs, self.aux_loss_enabled)
        loss = self.pair_loss.phi(self.pair_loss.margin(sides)).mean() + self._aux_loss(outputs)
        self._log_batch(inputs, self._pair_metrics(inputs, sides, torch.ones_like(sides.lp_1), outputs))
        if return_outputs:  # for compute_metrics, which wants logits; the fused LM head makes none
            outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        return (loss, outputs) if return_outputs else loss

    def _surrogate(self, sides: Sides, inputs: dict[str, Tensor], label: Tensor) -> SurrogateTerms:
        """The terms of the surrogate by the chosen estimator."""
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
            heaviest = float(inputs["weight"].max())  # 0 if this micro-batch only fills the ranks
            pairs_per_step = round(self.accelerator.num_processes / heaviest) if heaviest else 1
            return official(self.pair_loss, sides, routes, pairs_per_step)
        estimate = rao_blackwell if self.args.estimator == "rao-blackwell" else surrogate
        return estimate(self.pair_loss, sides, routes)

    def _self_labelled(self, inputs: dict[str, Tensor]) -> Tensor:
        on_pp = inputs["route"] == PP
        return on_pp | (inputs["route"] == DP) if self.args.dp_labels == "self" else on_pp

    def _record(self, name: str, value: float) -> None:
        self._metrics["train"][name].append(value)

    def _log_rewards(self, rewards: ResponseRewards) -> None:
        for name, values in rewards.logged().items():
            self._metrics["train"][name].extend(values)

    def _pair_metrics(self, inputs: dict[str, Tensor], sides: Sides, label: Tensor, outputs: Any) -> dict[str, float]:
        """What TRL's DPOTrainer logs of a batch; the response that the label prefers counts as chosen.

        Pairs that weigh nothing do not count.
        """
        counted = inputs["weight"] > 0 if "weight" in inputs else torch.ones_like(label, dtype=torch.bool)
        part = sides.where(counted)
        rewards = reward_metrics(self.pair_loss.rewards(part), part, label[counted])
        mask = inputs["completion_mask"] * counted.repeat(2)[:, None]
        return rewards | token_metrics(outputs, mask, torch.cat([label >= 0.5, label < 0.5]))

    def _log_step(
        self, inputs: dict[str, Tensor], sides: Sides, terms: SurrogateTerms, label: Tensor, outputs: Any
    ) -> None:
        metrics, phi, counted = route_shares(inputs["route"]), terms.phi.detach(), inputs["weight"] > 0
        if bool(counted.any()):
            names = {"online", "baseline", "ref_chosen_logps"} & inputs.keys()
            columns: dict[str, Tensor] = {name: inputs[name][counted] for name in names}
            metrics |= self._pair_metrics(inputs, sides, label, outputs)
            metrics |= label_metrics(self.pair_loss, sides.where(counted))
            metrics |= score_metrics(sides.where(counted), phi[counted], columns)
        self._log_batch(inputs, metrics)
        for route in ROUTE_NAMES:
            for value in phi[(inputs["route"] == route) & counted].tolist():
                self.lagged.add(route, value)

    def _log_norms(self, inputs: dict[str, Tensor], terms: SurrogateTerms) -> None:
        added = inputs["weight"] * inputs["coefficient"]
        parts = {"t1": added * terms.response, "t2": inputs["weight"] * terms.phi, "t3": added * terms.label}
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.norms.add({name: value.sum() for name, value in parts.items()}, parameters)
        self._unfinished_batches -= 1
        if self._unfinished_batches == 0:
            for name, value in self.norms.take(self.accelerator).items():
                self._record(f"norm/{name}", value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As DPOTrainer's, with this trainer's step metrics taken over all ranks."""
        if self.accelerator.num_processes > 1:
            join_metrics(self._metrics["train" if self.model.training else "eval"])
        super().log(logs, start_time)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            self.generators.save(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.generators.load(Path(resume_from_checkpoint), self.accelerator.unwrap_model(self.model))
