"""Packed weights against PyTorch's linear layer: values, gradients, weights that change, and where they are off."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from kit.training import dpo_trainer, perturb, rows
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.functional import linear

from harness.answer import packed_weights
from harness.answer.packed_weights import (
    MKL,
    ONEDNN,
    Kernel,
    PackedLinear,
    agrees,
    best_kernel,
    by_intel,
    filled,
    pack_linears,
)
from harness.answer.policy import Policy
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.store.environment import environment
from sail.sampling import sample
from sail.types import Request

pytestmark = pytest.mark.skipif(best_kernel() is None, reason="torch has no MKL here")

Load = Callable[[], Any]


@pytest.fixture(autouse=True, params=[MKL, ONEDNN], ids=lambda kernel: kernel.name)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Products by each library, of small weights too."""
    if not agrees(request.param):
        pytest.skip(f"torch has no products by {request.param.name} here")
    monkeypatch.setattr(packed_weights, "best_kernel", lambda: request.param)
    monkeypatch.setattr(packed_weights, "LEAST_PACKED", 1)
    monkeypatch.setattr("harness.store.environment._facts", {})
    used: Kernel = request.param
    return used


@pytest.fixture
def plain_load(load: Load, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads the tiny model without packed weights."""

    def inner() -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(packed_weights, "LEAST_PACKED", 1 << 40)
            return load()

    return inner


def layer(bias: bool = True, frozen: bool = True, width: int = 67) -> Any:
    torch.manual_seed(0)
    made = pack_linears(nn.Sequential(nn.Linear(width, 45, bias=bias)))[0]
    assert type(made) is PackedLinear
    return made.requires_grad_(not frozen)


def packed_product(made: Any, rows: int = 9) -> torch.Tensor:
    """Of random rows; it agrees with PyTorch's and was computed by a packed weight."""
    x = torch.randn(rows, made.in_features)
    out: torch.Tensor = made(x)
    assert made._copy is not None
    torch.testing.assert_close(out, linear(x, made.weight, made.bias), rtol=1e-5, atol=1e-5)
    return out


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "shape", [(1,), (3,), (4,), (7,), (33,), (2, 5), (2, 3, 11), (512,), (513,), (3, 400), (0,), ()]
)
def test_products_agree(bias: bool, shape: tuple[int, ...], kernel: Kernel) -> None:
    made = layer(bias)
    x = torch.randn(*shape, 67)
    out = made(x)
    assert out.shape == (*shape, 45)
    torch.testing.assert_close(out, linear(x, made.weight, made.bias), rtol=1e-5, atol=1e-5)
    rows = x.numel() // 67
    assert (made._copy is not None) == ((4 <= rows <= 512) if kernel is MKL else rows >= 1)


@pytest.mark.parametrize("kernel", [ONEDNN], indirect=True, ids=["onednn"])
def test_onednn_compiles_for_few_numbers_of_rows(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps memory for each. Rows that fill up do not show in the product."""
    made, sizes, inner = layer(), set(), torch.ops.mkldnn._linear_pointwise

    def spy(rows: torch.Tensor, *more: Any) -> Any:
        sizes.add(len(rows))
        return inner(rows, *more)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", spy)
    for count in [*range(1, 600), 1023, 1024, 1025, 2000, 5000]:
        packed_product(made, count)
    few = {*range(4, 9), *range(12, 65, 4), *range(80, 513, 16)}
    assert sizes == few | {544, 576, 608, 1024, 1088, 2048, 5120}


def test_rows_that_fill_up_are_few_and_their_numbers_too() -> None:
    assert [rows for rows in range(20_000) if filled(rows) < rows] == []
    assert max((filled(rows) - rows) / rows for rows in range(65, 20_000)) <= 15 / 65
    assert max((filled(rows) - rows) / rows for rows in range(512, 20_000)) <= 1 / 16
    assert len({filled(rows) for rows in range(1, 2**13 + 1)}) == 47 + 4 * 16


def test_rows_that_are_not_contiguous() -> None:
    made = layer()
    x = torch.randn(67, 8).t()
    assert made.takes(x)
    torch.testing.assert_close(made(x), linear(x, made.weight, made.bias), rtol=1e-5, atol=1e-5)
    every_second = torch.randn(16, 134)[::2, ::2]
    torch.testing.assert_close(made(every_second), linear(every_second, made.weight, made.bias), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_the_plain_layer() -> None:
    """Of the input past a frozen weight, of a bias, of a weight in training."""
    for frozen, bias_trains in ((True, False), (True, True), (False, False)):
        made = layer(frozen=frozen)
        made.bias.requires_grad_(bias_trains or not frozen)
        x = torch.randn(9, 67)
        wanted = [t for t in (made.weight, made.bias) if t.requires_grad]
        ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        got = torch.autograd.grad(made(ours).square().sum(), [ours, *wanted])
        plain = torch.autograd.grad(linear(theirs, made.weight, made.bias).square().sum(), [theirs, *wanted])
        for one, other in zip(got, plain, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def add_in_place(made: Any) -> None:
    with torch.no_grad():
        made.weight.add_(1)


def add_past_the_count(made: Any) -> None:
    made.weight.data += 1


def replace_data(made: Any) -> None:
    made.weight.data = torch.randn(45, 67)


def replace_weight(made: Any) -> None:
    made.weight = nn.Parameter(torch.randn(45, 67), requires_grad=False)


def load_state(made: Any) -> None:
    made.load_state_dict({"weight": torch.randn(45, 67), "bias": torch.zeros(45)})


CHANGES = [add_in_place, add_past_the_count, replace_data, replace_weight, load_state]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_weight_is_packed_again(change: Callable[[Any], None]) -> None:
    made = layer()
    packed_product(made)
    before = made._copy
    packed_product(made)
    assert made._copy is before
    change(made)
    packed_product(made)
    assert made._copy is not before


def test_an_adapter_merged_and_taken_out_again() -> None:
    torch.manual_seed(0)
    body = pack_linears(nn.Sequential(nn.Linear(67, 45), nn.Linear(45, 30)))
    plain = nn.Sequential(nn.Linear(67, 45), nn.Linear(45, 30))
    plain.load_state_dict(body.state_dict())
    config = LoraConfig(r=4, target_modules=["0"], init_lora_weights=False)
    torch.manual_seed(1)
    ours = get_peft_model(body, config).eval()
    torch.manual_seed(1)
    theirs = get_peft_model(plain, config).eval()
    x = torch.randn(9, 67)
    with torch.no_grad():
        for change in ("none", "merge_adapter", "unmerge_adapter", "merge_adapter"):
            for model in (ours, theirs) if change != "none" else ():
                getattr(model, change)()
            torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    assert isinstance(ours.base_model.model[0].base_layer, PackedLinear)
    assert ours.base_model.model[0].base_layer._copy is not None


def test_a_weight_in_training_has_no_copy() -> None:
    """Neither after a step, nor where it changes without one."""
    made = layer(frozen=False)
    with torch.no_grad():
        packed_product(made)
    made(torch.randn(9, 67)).sum().backward()
    assert made._copy is None
    with torch.no_grad():
        made(torch.randn(9, 67))
    assert made._copy is None
    synced = layer(frozen=False)
    with torch.no_grad():
        packed_product(synced)
        synced.weight.mul_(2)
        x = torch.randn(9, 67)
        assert torch.equal(synced(x), linear(x, synced.weight, synced.bias))
    assert synced._copy is None


def trained_weights(folder: Path, load: Load, tokenizer: Any, lora: bool) -> tuple[dict[str, torch.Tensor], Any]:
    changes = {"peft_config": LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "down_proj"])}
    trainer = dpo_trainer(folder, load, tokenizer, rows(), **changes if lora else {})
    perturb(trainer.model)
    trainer.train()
    return {n: p.detach() for n, p in trainer.model.named_parameters() if p.requires_grad}, trainer.model


@pytest.mark.parametrize("lora", [True, False])
def test_training_gives_the_same_weights(
    tmp_path: Path, load: Load, plain_load: Load, tokenizer: Any, lora: bool
) -> None:
    """Three steps of Adam at 0.001: to a thousandth of the way in the mean. Adam divides each gradient by its size, so
    that of a small one rounding shows."""
    ours, model = trained_weights(tmp_path / "a", load, tokenizer, lora)
    theirs, _ = trained_weights(tmp_path / "b", plain_load, tokenizer, lora)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert float((ours[name] - value).square().mean().sqrt()) <= 3e-6, name
    layers = [m for m in model.modules() if isinstance(m, PackedLinear)]
    assert layers and any(m._copy is not None for m in layers) == lora


def test_a_policy_computes_the_same_and_is_charged_the_same(load: Load, plain_load: Load, tokenizer: Any) -> None:
    def spent_by(model: Any) -> tuple[Any, ...]:
        meter = Meter(Ledger())
        policy = Policy(model, tokenizer, "p", meter=meter, cache=None)
        prompts = [tuple(range(20 + i, 30 + 2 * i)) for i in range(6)]
        with meter.phase("eval"):
            answers = policy.sample([Request(p, 6, 1.0, (i,)) for i, p in enumerate(prompts)])
            scored = policy.token_logps([(p, p[::-1]) for p in prompts])
        entries = {k: v for k, v in meter.ledger.entries["eval"].items() if k != "seconds"}
        return [a.ids for a in answers], torch.tensor([x for row in scored for x in row]), entries

    model = load()
    assert isinstance(model.get_output_embeddings(), PackedLinear)
    (ids, logps, entries), (plain_ids, plain_logps, plain_entries) = spent_by(model), spent_by(plain_load())
    assert ids == plain_ids
    torch.testing.assert_close(logps, plain_logps, rtol=1e-4, atol=1e-4)
    assert entries == plain_entries
    assert entries["decode_flops"] > 0 and entries["forward_flops"] > 0
    assert all(m._copy is not None for m in model.modules() if isinstance(m, PackedLinear))


def test_what_is_saved_and_copied_has_no_copy_in_it() -> None:
    made = layer()
    packed_product(made)
    assert set(made.state_dict()) == {"weight", "bias"}
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert other._copy is None
        x = torch.randn(9, 67)
        assert torch.equal(other(x), made(x))
        with torch.no_grad():
            other.weight.add_(1)
        packed_product(other)
    packed_product(made)


def test_other_precisions_and_autocast_are_plain() -> None:
    made = layer()
    x = torch.randn(9, 67)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert made(x).dtype == torch.bfloat16
    packed_product(made)
    half = made.to(torch.bfloat16)
    assert torch.equal(half(x.bfloat16()), linear(x.bfloat16(), half.weight, half.bias))
    assert type(pack_linears(nn.Sequential(nn.Linear(67, 45).to(torch.bfloat16)))[0]) is nn.Linear
    assert type(pack_linears(nn.Sequential(nn.Linear(67, 45, device="meta")))[0]) is nn.Linear


def kind_when_packed() -> Any:
    return type(pack_linears(nn.Sequential(nn.Linear(67, 45)))[0])


@pytest.mark.parametrize(("short", "expected"), [(0, PackedLinear), (1, nn.Linear)])
def test_copies_take_an_eighth_of_the_memory_at_most(
    short: int, expected: type, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the environment of a result says whether there are any."""
    memory = 8 * 67 * 45 * 4 - short
    monkeypatch.setattr(packed_weights, "cpu", lambda cores: SimpleNamespace(memory=memory))
    assert kind_when_packed() is expected
    assert environment().get("packed_weights") == (kernel.name if expected is PackedLinear else None)


def broken(kernel: Kernel, error: type[Exception] | None) -> Kernel:
    """A kernel whose products fail, or are wrong by a thousandth."""

    def product(input: torch.Tensor, packed: torch.Tensor, weight: torch.Tensor, bias: Any) -> torch.Tensor:
        if error is not None:
            raise error("no such product")
        return 1.001 * linear(input, weight, bias)

    return replace(kernel, product=product)


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, None])
@pytest.mark.parametrize("intel", [True, False])
def test_the_other_library_is_used_where_one_fails_and_none_where_both_do(
    error: type[Exception] | None, intel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_weights, "by_intel", lambda: intel)
    chosen = best_kernel.__wrapped__
    first, second = (MKL, ONEDNN) if intel else (ONEDNN, MKL)
    if agrees(first) and agrees(second):
        assert chosen() is first
        monkeypatch.setattr(packed_weights, first.name.upper(), broken(first, error))
        assert chosen() is second
        monkeypatch.setattr(packed_weights, second.name.upper(), broken(second, error))
    else:
        pytest.skip("torch lacks one of the libraries here")
    assert chosen() is None
    monkeypatch.setattr(packed_weights, "best_kernel", chosen)
    assert kind_when_packed() is nn.Linear


def test_the_maker_of_the_processor_is_that_of_lscpu() -> None:
    if (lscpu := shutil.which("lscpu")) is None:
        pytest.skip("lscpu is not installed")
    text = subprocess.run([lscpu], capture_output=True, text=True, check=True).stdout
    assert by_intel() == ("GenuineIntel" in text)


def test_models_stay_plain_where_torch_is_not_built_for_x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkl", SimpleNamespace())
    assert best_kernel.__wrapped__() is None


def test_a_model_trains_after_it_has_sampled(load: Load) -> None:
    """Weights that were packed while it sampled, in torch's inference mode, serve its training as well."""

    def gradients(answers: int) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = get_peft_model(load(), LoraConfig(r=2, target_modules=["q_proj", "down_proj"], layers_to_transform=[1]))
        requests = [Request((10, 11, 12), 4, 1.0, ("packed", i)) for i in range(answers)]
        sample(model, requests, eos_ids=[3], pad_id=1)
        copies = [m._copy for m in model.modules() if isinstance(m, PackedLinear)]
        assert any(copy is not None and copy.packed.is_inference() for copy in copies) == bool(answers)
        ids = torch.arange(10, 40).view(2, 15)
        model(input_ids=ids, labels=ids).loss.backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    before, after = gradients(0), gradients(6)
    assert len(before) == len(after) == 4
    torch.testing.assert_close(after, before, rtol=0, atol=0)
