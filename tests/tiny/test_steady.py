"""Layers whose weights stay for a while against those that look at each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn.functional import linear

from harness.answer import packed_weights
from harness.answer.packed_weights import PackedLinear, best_kernel, pack_linears
from sail.sampling import sample
from sail.steady import steady
from sail.types import Request

IDS = torch.arange(10, 22).view(2, 6)
REQUESTS = [Request(tuple(range(10, 15 + i)), 12, 1.0, ("steady", i)) for i in range(3)]

Load = Callable[[], Any]


def adapted(load: Load, name: str = "default", **changes: Any) -> Any:
    """The tiny model with an adapter that does something."""
    torch.manual_seed(1)
    config = LoraConfig(**{"r": 4, "target_modules": ["q_proj", "down_proj"], "lora_dropout": 0.2, **changes})
    model = get_peft_model(load(), config, adapter_name=name)
    for key, weight in model.named_parameters():
        if "lora_B" in key:
            nn.init.normal_(weight, std=0.5)
    return model.eval()


def lora_layers(model: Any) -> list[Any]:
    return [part for part in model.modules() if type(part) is LoraLinear]


def replaced(model: Any) -> list[Any]:
    return [part for part in model.modules() if "forward" in vars(part)]


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(IDS).logits
    return result


def test_adapters_give_the_same_bits_without_their_own_forward(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(load)
    expected = logits(model)
    with model.disable_adapter():
        assert not torch.allclose(logits(model), expected)
    with monkeypatch.context() as patch, steady(model):
        patch.delattr(LoraLinear, "forward")
        assert set(replaced(model)) >= set(lora_layers(model))
        assert torch.equal(logits(model), expected)
    assert lora_layers(model)
    assert not replaced(model)


def merge(model: Any) -> Any:
    model.merge_adapter()
    return model


def second(model: Any) -> Any:
    model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    model.base_model.set_adapter(["default", "second"])
    return model.eval()


def hooked(model: Any) -> Any:
    for part in lora_layers(model):
        part.lora_A["default"].register_forward_hook(lambda layer, given, result: 2 * result)
    return model


def offloaded(model: Any) -> Any:
    """The weights of the adapters are elsewhere until their layers compute."""
    for part in lora_layers(model):
        cpu_offload(part.lora_A["default"], torch.device("cpu"))
    return model


def in_double_precision(model: Any) -> Any:
    for part in lora_layers(model):
        part.lora_A.double()
        part.lora_B.double()
    return model


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda model: model, {"use_dora": True}),
        (lambda model: model, {"lora_bias": True}),
        (merge, {}),
        (second, {}),
        (hooked, {}),
        (offloaded, {}),
        (in_double_precision, {}),
    ],
    ids=["dora", "bias", "merged", "two adapters", "hooks", "offloaded", "another precision"],
)
def test_what_is_more_than_two_products_is_left_to_peft(
    load: Load, change: Callable[[Any], Any], options: dict[str, Any]
) -> None:
    model = change(adapted(load, **options))
    expected = logits(model)
    with steady(model):
        assert torch.equal(logits(model), expected)


def test_an_adapter_switched_off_or_in_training_is_left_to_peft(load: Load) -> None:
    model = adapted(load)
    with model.disable_adapter():
        expected = logits(model)
        with steady(model):
            assert torch.equal(logits(model), expected)
    with steady(model.train()):
        assert not set(replaced(model)) & set(lora_layers(model))


def test_the_weights_of_the_next_time_are_used(load: Load) -> None:
    model = adapted(load)
    before = sample(model, REQUESTS, eos_ids=[3], pad_id=1)
    for part in lora_layers(model):
        part.lora_B["default"].weight.data.neg_()
    changed = sample(model, REQUESTS, eos_ids=[3], pad_id=1)
    assert [a.ids for a in changed] != [a.ids for a in before]
    with torch.no_grad():
        for request, answer in zip(REQUESTS, changed, strict=True):
            logps = model(torch.tensor([[*request.prompt, *answer.ids]])).logits[0].log_softmax(-1)
            plain = [logps[len(request.prompt) - 1 + at, token] for at, token in enumerate(answer.ids)]
            torch.testing.assert_close(torch.tensor(answer.logps), torch.stack(plain), rtol=0, atol=2e-4)


def test_all_is_put_back_after_an_error_and_what_others_replaced_is_not_touched(load: Load) -> None:
    model = adapted(load)
    first, own = lora_layers(model)[0], lambda x: x
    first.forward = own

    def fail() -> None:
        with steady(model):
            assert first.forward is own
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert replaced(model) == [first]


@pytest.mark.skipif(best_kernel() is None, reason="torch has no MKL here")
def test_packed_weights_check_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of any number, as by the plain layer; one that was changed before is packed anew."""
    monkeypatch.setattr(packed_weights, "LEAST_PACKED", 1)
    torch.manual_seed(0)
    model = pack_linears(nn.Sequential(nn.Linear(67, 45))).requires_grad_(False)
    layer, inputs = model[0], [torch.randn(rows, 67) for rows in (1, 2, 3, 4, 9, 600)]
    with steady(model):
        assert not replaced(model)  # nothing is packed
        layer(inputs[-2])
    with steady(model), monkeypatch.context() as patch:
        patch.setattr(packed_weights._Copy, "is_of", lambda *given: pytest.fail("it was checked again"))
        for x in inputs:
            torch.testing.assert_close(layer(x), linear(x, layer.weight, layer.bias), rtol=1e-5, atol=1e-5)
    layer.weight.data += 1
    with steady(model):
        assert type(layer) is PackedLinear
        torch.testing.assert_close(layer(inputs[0]), linear(inputs[0], layer.weight, layer.bias), rtol=1e-5, atol=1e-5)
