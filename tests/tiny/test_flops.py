"""Analytic operation counts against ``torch.utils.flop_counter``, which watches every matrix product, to 2%."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.training import dpo_trainer, longest, perturb, rows, sail_trainer
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from harness.answer.policy import Policy
from harness.budget.flops import shape_of, shape_of_config
from harness.budget.fused_head import watch_fused_head
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from sail.types import Request

LORA = {"task_type": "CAUSAL_LM", "r": 4, "target_modules": ["q_proj", "v_proj", "gate_proj", "down_proj"]}

ATEN = torch.ops.aten


def counting() -> FlopCounterMode:
    """The counter; torch's attention formulas, known to it for kernels of accelerators, serve for the CPU's too."""
    formulas = {
        ATEN._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        ATEN._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: (
            sdpa_backward_flop_count(g, q, k, v)
        ),
    }
    return FlopCounterMode(display=False, custom_mapping=formulas)


def agrees(ledger: Ledger, counter: FlopCounterMode) -> None:
    """To 2%, and there is something."""
    assert counter.get_total_flops() > 1e6
    again = sum(row.get("recomputed_flops", 0) for row in ledger.entries.values())
    assert ledger.flops() + again == pytest.approx(counter.get_total_flops(), rel=0.02)


@pytest.fixture
def meter() -> Meter:
    meter = Meter(Ledger())
    watch_fused_head(meter)
    return meter


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"peft_config": LoraConfig(**LORA)},
        {"peft_config": LoraConfig(**LORA, layers_to_transform=[2])},
        {"peft_config": LoraConfig(**LORA), "gradient_checkpointing": True},
        {"gradient_accumulation_steps": 2, "max_steps": 2},
    ],
    ids=["full", "lora", "lora-top", "checkpointing", "accumulation"],
)
def test_dpo(load: Callable[[], Any], tokenizer: Any, tmp_path: Path, meter: Meter, settings: dict[str, Any]) -> None:
    trainer = dpo_trainer(tmp_path, lambda: meter.attach(load()), tokenizer, rows(), **settings)
    with counting() as counter:
        trainer.train()
    agrees(meter.ledger, counter)
    assert meter.ledger.flops("train") > meter.ledger.flops("reference") > 0


def test_checkpointing_changes_no_budget(load: Callable[[], Any], tokenizer: Any, tmp_path: Path) -> None:
    """A GPU's settings and a CPU's buy the same steps: what is computed a second time is counted apart."""
    spent = []
    for checkpointing in (False, True):
        meter = Meter(Ledger())
        watch_fused_head(meter)
        settings = {"peft_config": LoraConfig(**LORA), "gradient_checkpointing": checkpointing}
        dpo_trainer(tmp_path, lambda m=meter: m.attach(load()), tokenizer, rows(), **settings).train()
        spent.append((meter.ledger.spent("flops"), meter.ledger.get("train", "recomputed_flops")))
    assert spent[0][0] == spent[1][0]
    assert spent[0][1] == 0 < spent[1][1] < spent[1][0]


@pytest.mark.parametrize("peft", [True, False], ids=["lora", "full"])
def test_sail_with_rollouts(load: Callable[[], Any], tokenizer: Any, tmp_path: Path, meter: Meter, peft: bool) -> None:
    settings: dict[str, Any] = {"pr_share": 0.7, "max_new_tokens": 6, "max_steps": 3}
    if peft:
        settings["peft_config"] = LoraConfig(**LORA)
    data = rows()
    trainer = sail_trainer(tmp_path, lambda: meter.attach(load()), tokenizer, data, preference=longest, **settings)
    with counting() as counter:
        trainer.train()
    agrees(meter.ledger, counter)
    spent = meter.ledger.entries["generate"]
    assert spent["prefill_flops"] > 0 and spent["decode_flops"] > 0


def test_sampling_and_scoring(load: Callable[[], Any], tokenizer: Any, meter: Meter) -> None:
    policy = Policy(perturb(load()), tokenizer, "me", meter=meter, cache=None, batch_size=3)
    requests = [Request(tuple(range(10 + k, 40 + 5 * k)), 7, 1.0, ("flops", k)) for k in range(5)]
    with counting() as counter:
        answers = policy.sample(requests)
        policy.token_logps([(q.prompt, a.ids) for q, a in zip(requests, answers, strict=True)], 2)
        policy.next_token_logps([q.prompt for q in requests], [5, 6])
    agrees(meter.ledger, counter)


def small(name: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    if name == "gpt2":
        sizes = {"vocab_size": 300, "n_embd": 64, "n_layer": 3, "n_head": 4}
    elif name != "gpt_neox":
        sizes |= {"intermediate_size": 128, "num_key_value_heads": 2}
    else:
        sizes |= {"intermediate_size": 128}
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **sizes))


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "gpt_neox", "mistral"])
@pytest.mark.parametrize("train", [True, False], ids=["train", "score"])
def test_other_families(name: str, train: bool, meter: Meter) -> None:
    model = meter.attach(small(name))
    ids = torch.arange(80).view(2, 40)
    with counting() as counter, torch.set_grad_enabled(train):
        out = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids)
        if train:
            out.loss.backward()
    agrees(meter.ledger, counter)


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_experts_count_that_a_token_goes_through(kind: str, meter: Meter) -> None:
    """Against their plain implementation: torch's counter does not see the grouped kernel."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 300, "head_dim": 16}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "moe_intermediate_size": 96}
    config = AutoConfig.for_model(kind, **sizes, num_local_experts=6, num_experts_per_tok=2)
    model = AutoModelForCausalLM.from_config(config, experts_implementation="eager")
    meter.attach(model)
    ids = torch.arange(80).view(2, 40)
    with counting() as counter:
        model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss.backward()
    agrees(meter.ledger, counter)


def test_adapters_are_seen_as_they_are(load: Callable[[], Any]) -> None:
    """Active, switched off, merged: the linear layers cost what runs."""
    model = load()
    bare = shape_of(model)
    wrapped = get_peft_model(model, LoraConfig(**LORA))
    assert isinstance(wrapped, PeftModel)
    active = shape_of(model)
    assert {n.rank for n in active.linears} == {0, 4}
    assert active.bottom == 0 and bare.bottom == -1
    with wrapped.disable_adapter():
        assert {n.rank for n in shape_of(model).linears} == {0}
    wrapped.merge_adapter()
    assert {n.rank for n in shape_of(model).linears} == {0}


def test_shape_from_the_config_alone(load: Callable[[], Any]) -> None:
    """What ``plan`` predicts with before a model is loaded."""
    model = load()
    assert shape_of_config(model.config.to_dict(), None, 0) == shape_of(model)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    layers = model.config.num_hidden_layers
    get_peft_model(model, LoraConfig(r=4, target_modules=targets, layers_to_transform=[layers - 1]))
    assert shape_of_config(model.config.to_dict(), 1, 4) == shape_of(model)


def test_a_copy_is_metered_too(load: Callable[[], Any], meter: Meter) -> None:
    from copy import deepcopy

    model = meter.attach(load())
    copy = deepcopy(model)
    copy(input_ids=torch.arange(12).view(1, 12)).logits.sum().backward()
    assert meter.ledger.get("train", "tokens") == 12
    assert meter.ledger.get("train", "backward_flops") > 0
