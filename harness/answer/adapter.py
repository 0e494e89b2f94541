"""Adapters of PEFT: the base that one belongs to, and merging it into that base.

A model is an adapter if it holds ``adapter_config.json``. Its base is the model that this file names, unless the same
directory holds the weights of a model: then these are the base, as in transformers.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.store import hub
from harness.store.json_files import read_json

CONFIG = "adapter_config.json"

CHECKPOINT = "checkpoint-"
"""Trainers save earlier states of an adapter in subdirectories whose names begin so."""

PREFIX = "base_model.model."
"""PEFT writes it before the name of each weight."""

COPIES = (".modules_to_save.", ".token_adapter.")
"""In names of weights that PEFT saves twice, if the adapter has other embeddings than its base, and reads once."""

WEIGHTS = ("model*.safetensors", "model*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model*.bin.index.json")

TOLERANCE = 1e-3
"""Largest difference of logits, as a share of the largest logit, between the merged weights and the adapter on its
base. Both are computed in float32."""


class Source(NamedTuple):
    """Where a model is: a directory or a Hub id, and the Hub's revision (None: the newest)."""

    name: str
    revision: str | None

    @classmethod
    def of(cls, model: str) -> Source:
        """From the way a recipe writes it: a directory, or ``org/name@revision``."""
        if Path(model).is_dir():
            return cls(model, None)
        name, _, revision = model.partition("@")
        return cls(name, revision or None)


@dataclass(frozen=True)
class Adapter:
    """An adapter and its base.

    Attributes:
        model: the adapter as a recipe writes it.
        base: the base, written in the same way; None if the adapter's own directory holds its weights.
    """

    model: str
    base: str | None


def adapter_in(folder: Path) -> Adapter | None:
    """The adapter in a directory; None if there is none. Small files are read alone.

    Raises:
        UserError: its base is not named, or is a directory that does not exist; adapters in subdirectories, as PEFT
            saves those that have a name, of which none is meant or another than that in the directory itself.
    """
    named = sorted(file.parent for file in folder.glob(f"*/{CONFIG}"))
    if not (folder / CONFIG).is_file():
        if named and not (folder / "config.json").is_file():
            raise UserError(
                f"{folder} holds no model, but adapters that were saved under a name: set 'model:' to the one that is "
                f"meant, such as {named[-1]}"
            )
        return None
    others = [path for path in named if not path.name.startswith(CHECKPOINT)]
    if others:
        raise UserError(
            f"{folder} holds an adapter, and another in {others[0]}: set 'model:' to the latter, or move it to another "
            "directory"
        )
    if (folder / "config.json").is_file() and any(file for pattern in WEIGHTS for file in folder.glob(pattern)):
        return Adapter(str(folder), None)
    return Adapter(str(folder), _named_base(str(folder), folder / CONFIG))


def find_adapter(model: str) -> Adapter | None:
    """The adapter that a directory or a Hub id holds; None if it holds a model.

    Raises:
        UserError: as :func:`adapter_in`, or the base of an adapter of the Hub is a directory, which no key identifies.
    """
    name, revision = Source.of(model)
    if Path(name).is_dir():
        return adapter_in(Path(name))
    hub.answers()
    from transformers.utils import find_adapter_config_file

    config = find_adapter_config_file(name, revision=revision)
    if config is None:
        return None
    base = _named_base(model, Path(config))
    if Path(base).is_dir():
        raise UserError(
            f"The base of the adapter {model} is the directory {base}: download the adapter into a directory and name "
            "that, so that both are known by their files"
        )
    return Adapter(model, base)


def _named_base(model: str, config: Path) -> str:
    """The base that ``adapter_config.json`` names, as a recipe would write it."""
    value = read_json(config)
    base, revision = value.get("base_model_name_or_path"), value.get("revision")
    if not base:
        raise UserError(f"The adapter {model} names no base: set base_model_name_or_path in its {CONFIG}")
    if Path(base).is_dir():
        if Path(base).resolve() == Path(model).resolve():
            raise UserError(
                f"The adapter {model} names itself as its base: correct base_model_name_or_path in {CONFIG}"
            )
        return str(base)
    if Path(base).is_absolute() or base.startswith("."):
        raise UserError(
            f"The base {base} of the adapter {model} does not exist: correct base_model_name_or_path in its {CONFIG}"
        )
    return f"{base}@{revision}" if revision else str(base)


def load_weights(auto_class: Any, model: str, **options: Any) -> Any:
    """A model of transformers; an adapter is merged into its base, and has the base's dtype.

    Args:
        auto_class: such as ``AutoModelForCausalLM``.
        model: a directory or Hub id, of a model or of an adapter.
        options: of ``from_pretrained``.

    Raises:
        UserError: an adapter that cannot be merged, or whose base is not there; weights that are missing.
        OSError, ValueError: by transformers, a model that cannot be loaded.
    """
    return _load(auto_class, model, frozenset(), options)


def _load(auto_class: Any, model: str, provided: Collection[str], options: dict[str, Any]) -> Any:
    """``provided``: names of weights that an adapter on this model brings along."""
    adapter, (name, revision) = find_adapter(model), Source.of(model)
    if adapter is None:
        loaded, info = auto_class.from_pretrained(name, revision=revision, output_loading_info=True, **options)
        missing = sorted({*info["missing_keys"]} - {*provided})
        if missing:
            names = ", ".join(missing[:3]) + (" and more" if missing[3:] else "")
            raise UserError(
                f"The model {model} lacks the weights {names} of a "
                f"{type(loaded).__name__}, which would be random: name a model that was saved with them"
            )
        return loaded
    from peft import load_peft_weights

    with _base_of(adapter) as base:
        _check_unquantised(adapter, base)
        weights = load_peft_weights(name, device="cpu", revision=revision)
        try:
            loaded = _load(auto_class, base, [key.removeprefix(PREFIX) for key in weights], options)
        except (OSError, ValueError) as error:
            raise UserError(
                f"The base {adapter.base or 'in the directory'} of the adapter {model} cannot be loaded "
                f"({_reason(error)}): correct base_model_name_or_path in its {CONFIG}"
            ) from None
    return merge(loaded, adapter)


def load_config_of(model: str) -> Any:
    """The configuration of a model of transformers; of an adapter, that of its base.

    Args:
        model: a directory or Hub id, of a model or of an adapter.
    """
    from transformers import AutoConfig

    adapter, (name, revision) = find_adapter(model), Source.of(model)
    if adapter is not None and adapter.base is not None:
        return load_config_of(adapter.base)
    return AutoConfig.from_pretrained(name, revision=revision)


def load_tokenizer_of(model: str) -> Any:
    """The tokenizer of a model of transformers; of an adapter without one, that of its base.

    Args:
        model: a directory or Hub id, of a model or of an adapter.
    """
    from transformers import AutoTokenizer
    from transformers.utils import cached_file

    name, revision = Source.of(model)
    adapter = find_adapter(model)
    if adapter is None or adapter.base is None:
        return AutoTokenizer.from_pretrained(name, revision=revision)
    own = cached_file(
        name,
        "tokenizer_config.json",
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return AutoTokenizer.from_pretrained(name, revision=revision) if own else load_tokenizer_of(adapter.base)


@contextmanager
def _base_of(adapter: Adapter) -> Iterator[str]:
    """The base as a model that transformers loads. One that shares its directory with the adapter is seen through
    links, without the adapter's files."""
    if adapter.base is not None:
        yield adapter.base
        return
    with tempfile.TemporaryDirectory() as folder:
        for file in Path(adapter.model).resolve().iterdir():
            if not file.name.startswith("adapter_"):
                (Path(folder) / file.name).symlink_to(file)
        yield folder


def _check_unquantised(adapter: Adapter, base: str) -> None:
    try:
        quantised = getattr(load_config_of(base), "quantization_config", None)
    except (OSError, ValueError):
        return  # loading it says why
    if quantised is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised.quant_method
        raise UserError(
            f"The base {adapter.base or 'in the directory'} of the adapter {adapter.model} is quantised "
            f"({getattr(method, 'value', method)}), so the adapter cannot be merged into it: set "
            f"base_model_name_or_path in its {CONFIG} to the model before quantisation"
        )


def merge(base: Any, adapter: Adapter) -> Any:
    """The base with the adapter merged into its weights: computed in float32, kept in the base's dtype.

    Args:
        base: the model of transformers; it is changed.
        adapter: belongs to it.

    Raises:
        UserError: the adapter does not fit the base, or cannot be merged: the merged weights give other logits.
    """
    import torch

    kept, main = {name: weight.dtype for name, weight in base.named_parameters()}, base.dtype
    rows, generator = base.get_input_embeddings().weight.shape[0], torch.Generator().manual_seed(0)
    ids = torch.randint(0, rows, (1, 32), generator=generator)
    adapted = _attach(base.float().eval(), adapter)
    with torch.no_grad():
        expected = adapted(input_ids=ids).logits
        tied = _untie(base)
        try:
            with warnings.catch_warnings(action="ignore"):  # of PEFT, about what is untied here
                merged = adapted.merge_and_unload(safe_merge=True)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            raise _cannot_merge(adapter, _reason(error)) from None
        if tied:
            _tie_again(merged)
        difference = (merged(input_ids=ids).logits - expected).abs().max().item()
    if not difference <= TOLERANCE * max(1.0, expected.abs().max().item()):
        raise _cannot_merge(adapter, f"its logits change by up to {difference:.2g}")
    for name, weight in merged.named_parameters():
        weight.data = weight.data.to(kept.get(name, main))
    return merged.requires_grad_(True)


def _attach(base: Any, adapter: Adapter) -> Any:
    """The adapter on its base, by PEFT. A weight of the adapter that its file lacks, or that the base has no place for,
    is an error."""
    from peft import PeftConfig, PeftModel, load_peft_weights

    name, revision = Source.of(adapter.model)
    try:
        config = PeftConfig.from_pretrained(name, revision=revision)
        if config.is_prompt_learning:
            raise _cannot_merge(adapter, "it adds to the prompt, not to the weights")
        _resize(base, load_peft_weights(name, device="cpu", revision=revision))
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            adapted = PeftModel.from_pretrained(base, name, revision=revision)
            loaded = adapted.load_adapter(name, "default", revision=revision)  # as above, and says what it did
        unplaced = [key for key in loaded.unexpected_keys if not any(part in key for part in COPIES)]
        if unplaced:
            raise ValueError(f"the base has no place for {len(unplaced)} of its weights, such as {unplaced[0]}")
        return adapted
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - PEFT raises many kinds of errors
        raise UserError(
            f"The adapter {adapter.model} does not fit its base {adapter.base or 'in the same directory'} "
            f"({_reason(error)}): correct base_model_name_or_path in its {CONFIG}"
        ) from None


def _resize(base: Any, weights: Mapping[str, Any]) -> None:
    """Give the base as many embeddings as the adapter was trained with; where it has more, its file holds them."""
    embeddings = base.get_input_embeddings()
    name = next(name for name, module in base.named_modules() if module is embeddings)
    for key, tensor in weights.items():
        if f".{name}." in key and key.endswith((".weight", ".lora_embedding_A")):
            rows = tensor.shape[1] if key.endswith(".lora_embedding_A") else tensor.shape[0]
            if rows != embeddings.weight.shape[0]:
                base.resize_token_embeddings(rows, mean_resizing=False)
                return


def _untie(model: Any) -> bool:
    """Give the LM head a weight of its own, so that what is merged into it does not change the embeddings as well;
    whether the two shared one."""
    from torch import nn

    head, embeddings = (_innermost(m) for m in (model.get_output_embeddings(), model.get_input_embeddings()))
    tied = head is not None and head.weight is embeddings.weight
    if tied:
        head.weight = nn.Parameter(head.weight.detach().clone())
    return tied


def _tie_again(model: Any) -> None:
    """Let the LM head share the weight of the embeddings if the two are still equal; the configuration says so."""
    import torch

    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    tied = torch.equal(head.weight, embeddings.weight)
    if tied:
        head.weight = embeddings.weight
    model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = tied


def _innermost(module: Any) -> Any:
    """The module of the base under PEFT's wrappers."""
    while True:
        names = (name for name in ("base_layer", "original_module") if hasattr(module, name))
        inner = getattr(module, next(names, ""), None)
        if inner is None:
            return module
        module = inner


def _cannot_merge(adapter: Adapter, reason: str) -> UserError:
    from peft import PeftConfig

    name, revision = Source.of(adapter.model)
    kind = PeftConfig.from_pretrained(name, revision=revision).peft_type
    return UserError(
        f"The adapter {adapter.model} ({getattr(kind, 'value', kind)}) cannot be merged into its base ({reason}): name "
        "a model with whole weights, or an adapter of another kind, such as LoRA"
    )


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
