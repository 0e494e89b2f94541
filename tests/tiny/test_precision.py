"""Precision: what training changes, which log-probabilities agree, and what is in memory."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.command import run_here, tiny_recipe, write_tiny
from kit.contexts import context
from kit.training import perturb, rows
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from trl import DPOConfig

from harness.answer.held_models import HeldModels
from harness.answer.load import Loading, allow_tf32, autocast, load_model
from harness.answer.policy import Policy
from harness.budget.budget import Budget
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.errors import UserError
from harness.recipe.recipe import Recipe
from harness.recipe.train import LoraSpec, Precision, TrainSpec
from harness.run.plugins import load as plugin
from harness.train.rounds import sample_answers
from harness.train.settings import arguments, lora_config
from harness.train.trainer import dataset
from sail import sampling
from sail import trainer as sail_trainer_module
from sail.dpo import TokenisedDPOTrainer, pair_scores
from sail.types import Request

STEPS = Budget("b", "steps", 4)
FULL = TrainSpec(batch_size=4, lora=None, checkpoints=1)
ADAPTER = LoraSpec(r=4, alpha=8)
PAIRS = [(row["prompt_ids"], row["chosen_ids"]) for row in rows(8)]


# Training


@pytest.mark.parametrize("name", ["dpo", "simpo", "sail-pr"])
def test_mixed_precision_changes_the_weights(name: str, tiny_dir: Path, tmp_path: Path) -> None:
    """At a rate of 1e-6. Weights in bfloat16 would have lost nearly all of it to rounding."""
    folder = plugin("methods", name)().train(context(tiny_dir, tmp_path, FULL, STEPS, precision="bf16-mixed"))
    before, after = load_file(tiny_dir / "model.safetensors"), load_file(folder / "model.safetensors")
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    count = sum(weight.numel() for weight in before.values())
    assert sum(int((after[key] != weight).sum()) for key, weight in before.items()) / count > 0.99
    assert sum(int((after[key].bfloat16() != w.bfloat16()).sum()) for key, w in before.items()) / count < 0.05


def test_full_tuning_in_bf16_is_refused(tmp_path: Path) -> None:
    write_tiny(tmp_path / "mine.yaml", precision="bf16", train={"batch_size": 4, "lora": None})
    done = run_here("compare", "mine.yaml", cwd=tmp_path)
    assert done.returncode == 2
    (sentence,) = done.stderr.strip().splitlines()
    assert "precision: bf16" in sentence and "bf16-mixed" in sentence
    with pytest.raises(ValueError, match="train an adapter"):
        Recipe.model_validate(tiny_recipe(precision="bf16", train={"lora": None}))


@pytest.mark.parametrize("precision", ["float32", "bf16-mixed", "bf16"])
def test_adapters_train_in_float32(precision: Precision, tiny_dir: Path, tmp_path: Path) -> None:
    folder = plugin("methods", "dpo")().train(
        context(tiny_dir, tmp_path, TrainSpec(batch_size=4, lora=ADAPTER), STEPS, precision=precision)
    )
    weights = load_file(folder / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert all(bool(weight.any()) for name, weight in weights.items() if "lora_B" in name)


def test_training_leaves_no_model_in_memory(tiny_dir: Path, tmp_path: Path) -> None:
    """Garbage collection is on no schedule: what an earlier trainer left would lie beside the next policy."""
    models = []
    given = context(tiny_dir, tmp_path, FULL, STEPS)
    load = given.load_model

    def watched(folder: Path | None = None) -> Any:
        model = load(folder)
        models.append(weakref.ref(model))
        return model

    given.load_model = watched
    plugin("methods", "spin")().train(given)
    assert len(models) >= 4 and not any(model() for model in models)


# Log-probabilities


LIMITS: dict[Precision, float] = {"float32": 2e-6, "bf16-mixed": 4e-3, "bf16": 4e-3}
"""Nats a token by which a stored log-probability may be off the training forward's. Measured on these random texts:
4e-7, 1.4e-3, 2.0e-3."""


@pytest.mark.parametrize("precision", LIMITS)
def test_stored_log_probabilities_are_the_trained_ones(precision: Precision, tiny_dir: Path, tmp_path: Path) -> None:
    """So that the margin u of every pair is 0 at the start policy, up to the precision's rounding."""
    given = context(tiny_dir, tmp_path, TrainSpec(batch_size=8, lora=ADAPTER), STEPS, precision=precision)
    policy = policy_of(HeldModels(tiny_dir, Loading(precision)).start(), given.tokenizer)
    data = rows(8)
    for side in ("chosen", "rejected"):
        for row, logps in zip(
            data, policy.token_logps([(r["prompt_ids"], r[f"{side}_ids"]) for r in data]), strict=True
        ):
            row[f"ref_{side}_logps"] = sum(logps)
    model = given.load_model()
    trainer = TokenisedDPOTrainer(
        model=model,
        args=DPOConfig(**arguments(given), precompute_ref_log_probs=True),
        train_dataset=dataset(data, tmp_path / "train.arrow"),
        processing_class=given.tokenizer,
        peft_config=lora_config(ADAPTER, model),
    )
    batch = trainer._prepare_inputs(trainer.data_collator(list(dataset(data, tmp_path / "batch.arrow"))))
    with trainer.accelerator.autocast():
        sides = pair_scores(trainer.model, batch).sides
    trained, stored = torch.stack([sides.lp_1, sides.lp_2]), torch.stack([sides.ref_1, sides.ref_2])
    error = ((trained.detach() - stored) / torch.stack([sides.len_1, sides.len_2])).abs().mean()
    assert float(error) < LIMITS[precision]
    if precision == "bf16-mixed":  # and float32 references would be another policy's
        plain = policy_of(HeldModels(tiny_dir, Loading()).start(), given.tokenizer)
        first = [sum(v) for v in plain.token_logps([(r["prompt_ids"], r["chosen_ids"]) for r in data])]
        assert float(((sides.lp_1.detach() - torch.tensor(first)) / sides.len_1).abs().mean()) > 2 * float(error)


# Memory


def policy_of(model: Any, tokenizer: Any, meter: Meter | None = None) -> Policy:
    return Policy(model, tokenizer, "p", meter=meter or Meter(Ledger()), cache=None)


@pytest.fixture(scope="module")
def adapters(tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters, the second so small that bfloat16 weights would round it away."""
    folders = []
    for seed, scale in ((1, 0.05), (2, 0.002)):
        torch.manual_seed(seed)
        base = load_model(tiny_dir)
        model = perturb(get_peft_model(base, lora_config(ADAPTER, base)), seed=seed, scale=scale)
        folders.append(tmp_path_factory.mktemp("adapter"))
        model.save_pretrained(folders[-1])
    return folders


def weights_alive(shape: torch.Size) -> int:
    """Copies of the weights in memory: of the embeddings, by their shape."""
    gc.collect()
    alive = [p for p in gc.get_objects() if isinstance(p, torch.nn.Parameter) and p.shape == shape]
    return len({parameter.data_ptr() for parameter in alive})


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16"])
def test_policies_share_the_weights_of_the_start(
    precision: Precision, tiny_dir: Path, tokenizer: Any, adapters: list[Path]
) -> None:
    """In any order of use each gives what PEFT gives of its adapter alone, and the start policy what it gave before."""
    loading, meter = Loading(precision), Meter(Ledger())
    models = HeldModels(tiny_dir, loading)
    policies = [policy_of(models.start(), tokenizer, meter)]
    alone = [policies[0].token_logps(PAIRS)]
    for folder in adapters:
        separate = PeftModel.from_pretrained(load_model(tiny_dir, None, loading), str(folder)).eval()
        with autocast(precision):
            alone.append(policy_of(separate.get_base_model(), tokenizer).token_logps(PAIRS))
        policies.append(policy_of(models.trained(folder), tokenizer, meter))
    del separate
    assert len({id(policy.model) for policy in policies}) == 1
    for index in (2, 0, 1, 0, 2, 1):
        assert policies[index].token_logps(PAIRS) == alone[index]
    assert alone[0] != alone[1] and alone[0] != alone[2]
    spent = []
    for policy in policies:
        before = meter.ledger.get("reference", "forward_flops")
        policy.token_logps(PAIRS)
        spent.append(meter.ledger.get("reference", "forward_flops") - before)
    assert spent[0] < spent[1] == spent[2]


def test_one_copy_of_the_weights_is_in_memory(tiny_dir: Path, tokenizer: Any, adapters: list[Path]) -> None:
    shape = load_model(tiny_dir).get_input_embeddings().weight.shape
    before = weights_alive(shape)
    models = HeldModels(tiny_dir, Loading("bf16-mixed"))
    kept = [policy_of(models.start(), tokenizer), *(policy_of(models.trained(f), tokenizer) for f in adapters)]
    assert weights_alive(shape) - before == 1
    layer = kept[0].model.model.layers[0].self_attn.q_proj
    assert len(layer.lora_A) == 2
    del kept[1:]
    gc.collect()
    kept.append(policy_of(models.trained(adapters[0]), tokenizer))
    assert len(layer.lora_A) == 1, "adapters of policies that are gone"
    assert kept[1].token_logps(PAIRS) != kept[0].token_logps(PAIRS)


def test_a_small_adapter_survives(tiny_dir: Path, tokenizer: Any, adapters: list[Path]) -> None:
    """Merged into bfloat16 weights, the second adapter would change less than half of what it changes in float32."""

    def effect(model: Any, start: Any) -> torch.Tensor:
        own, other = (policy_of(m, tokenizer).token_logps(PAIRS) for m in (model, start))
        return torch.tensor([a - b for x, y in zip(own, other, strict=True) for a, b in zip(x, y, strict=True)])

    exact = effect(load_model(tiny_dir, adapters[1]), load_model(tiny_dir))
    models = HeldModels(tiny_dir, Loading("bf16"))
    ours = effect(models.trained(adapters[1]), models.start())
    half = load_model(tiny_dir, None, Loading("bf16"))
    rounded = PeftModel.from_pretrained(
        load_model(tiny_dir, None, Loading("bf16")), str(adapters[1])
    ).merge_and_unload()
    merged = effect(rounded.eval(), half)
    assert float((ours - exact).square().mean()) < float((merged - exact).square().mean())


def test_one_model_is_on_the_gpu_at_a_time(
    tiny_dir: Path, tokenizer: Any, adapters: list[Path], monkeypatch: Any
) -> None:
    """On a device that only the names know: where each model was sent last."""
    models = HeldModels(tiny_dir, Loading())
    policies = [policy_of(models.start(), tokenizer), policy_of(models.trained(adapters[0]), tokenizer)]
    places = {id(policy.model): "cuda" for policy in policies}

    class Place:
        """What the model says of its device."""

        def __init__(self, model: Any) -> None:
            self.type = places[id(model)]

    def sent(model: Any, place: str) -> Any:
        places[id(model)] = place
        return model

    def used(index: int) -> list[str]:
        with policies[index].held.computing():
            return [places[id(policy.model)] for policy in policies]

    monkeypatch.setattr("harness.answer.held_models.device", lambda: "cuda")
    monkeypatch.setattr("harness.answer.held_models.on_accelerator", lambda model: sent(model, "cuda"))
    kind = type(policies[0].model)
    monkeypatch.setattr(kind, "device", property(Place))
    monkeypatch.setattr(kind, "to", sent)
    assert used(0) == ["cuda", "cpu"]
    assert used(1) == ["cpu", "cuda"]
    models.release()
    assert list(places.values()) == ["cpu", "cpu"]
    assert used(0) == ["cuda", "cpu"]
    placed: list[list[str]] = []
    inner = load_model

    def loading(*arguments: Any) -> Any:
        placed.append(list(places.values()))
        return inner(*arguments)

    monkeypatch.setattr("harness.answer.held_models.load_model", loading)
    third = models.trained(adapters[1])
    assert placed == [["cpu", "cpu"]] and third.model is not policies[1].model, "others leave before it is loaded"


# Settings that reach their place


def test_the_batch_of_sampling_reaches_every_trainer(
    tiny_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def recorded(*given: Any, batch_size: int = 64, **more: Any) -> Any:
        sizes.append(batch_size)
        return real(*given, batch_size=batch_size, **more)

    real = sampling.sample
    monkeypatch.setattr(sampling, "sample", recorded)
    monkeypatch.setattr(sail_trainer_module, "sample", recorded)
    for name in ("sail-pr", "online-dpo", "spin"):
        train = TrainSpec(batch_size=4, lora=ADAPTER)
        given = context(tiny_dir, tmp_path / name, train, Budget("b", "steps", 2), generation_batch_size=3)
        plugin("methods", name)().train(given)
        assert sizes and set(sizes) == {3}, name
        sizes.clear()


def test_rounds_sample_as_they_train(tiny_dir: Path, tmp_path: Path) -> None:
    given = context(tiny_dir, tmp_path, FULL, STEPS, precision="bf16-mixed")
    model, seen = given.load_model(), set()
    model.model.layers[0].self_attn.q_proj.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    sample_answers(given, model, given.pairs[:2], 1, (0,))
    assert seen == {torch.bfloat16}


def test_policies_compute_in_the_precision(tiny_dir: Path, tokenizer: Any) -> None:
    """Sampling, scoring, continuations and the local judge's next token."""
    for precision, dtype in (("float32", torch.float32), ("bf16-mixed", torch.bfloat16), ("bf16", torch.bfloat16)):
        policy = policy_of(HeldModels(tiny_dir, Loading(precision)).start(), tokenizer)
        seen: set[torch.dtype] = set()
        policy.model.model.layers[0].self_attn.q_proj.register_forward_hook(
            lambda module, inputs, output, seen=seen: seen.add(output.dtype)
        )
        policy.sample([Request((1, 2, 3), 2, 1.0, ("a",))])
        policy.token_logps(PAIRS[:2])
        policy.continuation_logps(PAIRS[:2])
        policy.next_token_logps([(1, 2, 3)], [4, 5])
        assert seen == {dtype}, precision


def test_tf32_is_set() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    for allowed in (True, False):
        allow_tf32(allowed)
        assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is allowed
    allow_tf32(before)


def test_precision_is_part_of_every_key() -> None:
    """And the attention that is chosen, whose kernels round otherwise."""
    changes: list[dict[str, Any]] = [{}, {"tf32": True}, {"tf32": True, "train": {"attention": "eager"}}]
    kinds = [Recipe.model_validate(tiny_recipe(**change)).arithmetic for change in changes]
    assert kinds == ["float32", "float32, tf32", "float32, tf32, eager"]


def test_an_unknown_attention_is_refused_before_any_work(tiny_dir: Path) -> None:
    from harness.train.checks import check_settings

    check_settings(TrainSpec(attention="eager"), "float32", tiny_dir)
    with pytest.raises(UserError, match=r"train\.attention: quick cannot be used here \(.*\): leave it out"):
        check_settings(TrainSpec(attention="quick"), "float32", tiny_dir)
    assert load_model(tiny_dir, None, Loading(attention="eager")).config._attn_implementation == "eager"
