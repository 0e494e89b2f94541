"""Rewards of sampled responses as texts, as TRL's online trainers compute them (GRPOTrainer, TRL 1.16)."""

from __future__ import annotations

import asyncio
import math
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import stdev
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from sail.config import SAILConfig
    from sail.pairs import StepPair


class Completions(NamedTuple):
    """Responses as TRL's reward functions get them; all lists have one entry a response.

    Attributes:
        prompts: of the data set: text, or a conversation.
        completions: text, or a conversation of one message, as the prompt is.
        completion_ids: token ids.
        columns: the other columns of the data set, by name; plain ``chosen`` and ``rejected`` without the end token
            that TRL adds to them.
    """

    prompts: list[Any]
    completions: list[Any]
    completion_ids: list[list[int]]
    columns: dict[str, list[Any]]

    @classmethod
    def of(cls, pairs: Sequence[StepPair], responses: Sequence[Sequence[int]], tokenizer: Any) -> Completions:
        """Responses decoded, special tokens left out.

        Args:
            pairs: for each response the pair whose prompt it answers.
            responses: token ids.
            tokenizer: of the policy; with a response template or schema it also takes messages apart.
        """
        prompts, ids = [pair.columns["prompt"] for pair in pairs], [list(response) for response in responses]
        names = [name for name in pairs[0].columns if name not in ("prompt", "completion", "completion_ids")]
        columns = {name: [pair.columns[name] for pair in pairs] for name in names}
        for name in {"chosen", "rejected"} & set(names):
            columns[name] = [v.removesuffix(tokenizer.eos_token) if isinstance(v, str) else v for v in columns[name]]
        if not conversational(prompts):
            return cls(prompts, tokenizer.batch_decode(ids, skip_special_tokens=True), ids, columns)
        if getattr(tokenizer, "response_template", None) or getattr(tokenizer, "response_schema", None):
            from trl.chat_template_utils import parse_response

            messages = [parse_response(tokenizer, i, prefix=list(p.prompt)) for i, p in zip(ids, pairs, strict=True)]
        else:
            texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
            messages = [{"role": "assistant", "content": text} for text in texts]
        return cls(prompts, [[message] for message in messages], ids, columns)


def conversational(prompts: Sequence[Any]) -> bool:
    """Whether prompts are conversations; those of a data set all have one form."""
    from trl.data_utils import is_conversational

    return bool(is_conversational({"prompt": prompts[0]}))


class ResponseRewards(NamedTuple):
    """Rewards of n responses.

    Attributes:
        total: weighted sum over the functions that scored a response; NaN if none did.
        by_function: rewards of each function, by its name; NaN where it returned None.
    """

    total: list[float]
    by_function: dict[str, list[float]]

    def logged(self) -> dict[str, list[float]]:
        """Values under TRL's names (``rewards/NAME/mean``, ``reward``, their spreads), and ``rewards/unscored``.

        Of a mean one value for each scored response, so that the log averages over responses, on whichever rank.
        """
        out = {"rewards/unscored": [float(math.isnan(total)) for total in self.total]}
        for mean, spread, values in (
            ("reward", "reward_std", self.total),
            *((f"rewards/{name}/mean", f"rewards/{name}/std", values) for name, values in self.by_function.items()),
        ):
            scored = [value for value in values if not math.isnan(value)]
            out[mean] = scored
            out[spread] = [stdev(scored)] if len(scored) > 1 else []
        return {name: values for name, values in out.items() if values}


class RewardFunctions:
    """Functions and reward models that score responses, as ``reward_funcs`` of TRL's online trainers.

    Args:
        functions: one or a list of: a function ``f(prompts, completions, completion_ids, **columns)`` that returns a
            list of numbers or None, perhaps asynchronous; a sequence-classification model; its address.
        processing_classes: tokenizers of the reward models, in the same order; loaded with the model if None.
        args: of the trainer: ``reward_weights``, ``model_init_kwargs``, ``trust_remote_code``.

    Raises:
        ValueError: not as many weights or tokenizers as functions, none at all, or something else.
    """

    def __init__(self, functions: Any, processing_classes: Any, args: SAILConfig) -> None:
        given = list(functions) if isinstance(functions, list | tuple) else [functions]
        wrong = next((f for f in given if not (callable(f) or isinstance(f, str))), None)
        if wrong is not None:
            raise ValueError(f"reward_funcs has {wrong!r}: give functions, reward models or their addresses")
        if not given:
            raise ValueError("reward_funcs is empty: name at least one function or reward model")
        single = processing_classes is not None and not isinstance(processing_classes, list | tuple)
        tokenizers = [processing_classes] if single else list(processing_classes or [None] * len(given))
        for what, values in (("reward_weights", args.reward_weights), ("reward_processing_classes", tokenizers)):
            if values is not None and len(values) != len(given):
                raise ValueError(f"{what} has {len(values)} entries for {len(given)} reward_funcs: give one for each")
        self.functions = [_loaded(function, args) if isinstance(function, str) else function for function in given]
        self.names = _unique([_name(function) for function in self.functions])
        self.weights = list(args.reward_weights or [1.0] * len(given))
        self.tokenizers = [
            _tokenizer(function, tokenizer, args) if isinstance(function, torch.nn.Module) else None
            for function, tokenizer in zip(self.functions, tokenizers, strict=True)
        ]
        self.batch_size = args.generation_batch_size
        self.extra: dict[str, Any] = {}
        self._warned = False

    def prepare(self, accelerator: Any, **extra: Any) -> None:
        """Move reward models to the device.

        Args:
            accelerator: of the trainer.
            extra: further keyword arguments of the functions, as ``trainer_state``.
        """
        self.extra = extra
        self.functions = [
            accelerator.prepare_model(f, evaluation_mode=True, device_placement=True)
            if isinstance(f, torch.nn.Module)
            else f
            for f in self.functions
        ]

    def __call__(self, batch: Completions) -> ResponseRewards:
        """Rewards of responses.

        Raises:
            ValueError: a function returned not one finite number or None for each response.
        """
        table = {
            name: self._called(function, name, batch)
            if tokenizer is None
            else self._modelled(function, tokenizer, batch)
            for name, function, tokenizer in zip(self.names, self.functions, self.tokenizers, strict=True)
        }
        total = []
        for row in zip(*table.values(), strict=True):
            scored = [w * r for w, r in zip(self.weights, row, strict=True) if not math.isnan(r)]
            total.append(sum(scored) if scored else math.nan)
        if total and all(map(math.isnan, total)) and not self._warned:
            self._warned = True
            warnings.warn(
                f"reward_funcs ({', '.join(self.names)}) scored none of the {len(total)} responses of a step, "
                "whose pairs train nothing: return numbers",
                stacklevel=2,
            )
        return ResponseRewards(total, table)

    def _called(self, function: Any, name: str, batch: Completions) -> list[float]:
        from trl.trainer.utils import is_async_callable

        def call() -> Any:
            return function(
                prompts=batch.prompts,
                completions=batch.completions,
                completion_ids=batch.completion_ids,
                **batch.columns,
                **self.extra,
            )

        if is_async_callable(function):
            with ThreadPoolExecutor(1) as thread:  # a notebook's own loop runs in this one
                returned = thread.submit(lambda: asyncio.run(call())).result()
        else:
            returned = call()
        return _numbers(returned, len(batch.prompts), name)

    def _modelled(self, model: Any, tokenizer: Any, batch: Completions) -> list[float]:
        from trl.data_utils import apply_chat_template

        both = list(zip(batch.prompts, batch.completions, strict=True))
        if conversational(batch.prompts):
            texts = [apply_chat_template({"messages": p + c}, tokenizer)["text"] for p, c in both]
        else:
            texts = [p + c for p, c in both]
        device, rewards = next(model.parameters()).device, []
        for start in range(0, len(texts), self.batch_size):
            encoded = tokenizer(
                text=texts[start : start + self.batch_size], return_tensors="pt", padding=True, padding_side="right",
                add_special_tokens=False,
            )  # fmt: skip
            with torch.inference_mode():
                rewards += model(**encoded.to(device)).logits[:, 0].float().tolist()
        return rewards


def _loaded(address: str, args: SAILConfig) -> Any:
    from transformers import AutoModelForSequenceClassification

    settings = {"trust_remote_code": args.trust_remote_code} | dict(args.model_init_kwargs or {})
    if args.world_size > 1:
        settings["device_map"] = None
    return AutoModelForSequenceClassification.from_pretrained(address, num_labels=1, **settings)


def _tokenizer(model: Any, tokenizer: Any, args: SAILConfig) -> Any:
    """The tokenizer of a reward model, with a padding id that the model knows: it scores the last token before it."""
    from transformers import AutoTokenizer
    from trl.trainer.utils import get_config_model_id

    if tokenizer is None:
        tokenizer = AutoTokenizer.from_pretrained(
            get_config_model_id(model.config),
            revision=dict(args.model_init_kwargs or {}).get("revision"),
            trust_remote_code=args.trust_remote_code,
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return tokenizer


def _name(function: Any) -> str:
    from trl.trainer.utils import get_callable_name, get_config_model_id

    if isinstance(function, torch.nn.Module):
        return str(get_config_model_id(function.config).split("/")[-1])
    return str(get_callable_name(function))


def _unique(names: Sequence[str]) -> list[str]:
    """Names that differ, since each has its own line in the log: a second ``length`` is ``length_2``."""
    return [name if names.index(name) == i else f"{name}_{names[: i + 1].count(name)}" for i, name in enumerate(names)]


def _numbers(returned: Any, count: int, name: str) -> list[float]:
    rewards = []
    for place, value in enumerate(listed(returned, count, f"reward function {name!r}", "response")):
        try:
            rewards.append(math.nan if value is None else float(value))
        except (TypeError, ValueError, RuntimeError):
            rewards.append(math.inf)
        if math.isinf(rewards[-1]):
            raise ValueError(
                f"reward function {name!r} returned {value!r} for response {place} of {count}: return a finite number, "
                "or None where it does not apply"
            )
    return rewards


def listed(returned: Any, count: int, name: str, of: str) -> list[Any]:
    """What a user's function returned, a list, an array or a tensor, as a list.

    Args:
        returned: by the function.
        count: of entries that it must have.
        name: of the function, for messages.
        of: what it must return one entry for.

    Raises:
        ValueError: it is something else, or of another length.
    """
    try:
        values = list(returned.tolist() if hasattr(returned, "tolist") else returned)
    except TypeError:
        raise ValueError(f"{name} returned {returned!r}: return a list with one number for each {of}") from None
    if len(values) != count:
        raise ValueError(f"{name} returned {len(values)} values, but was asked for {count}: return one for each {of}")
    return values
