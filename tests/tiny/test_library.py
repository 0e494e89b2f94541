"""``sail`` as a user meets it: the printed examples, ids before rows are dropped, streams, what is not supported, the
model card, and a loss that reads no reference."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from conftest import ROOT
from datasets import Dataset, IterableDataset
from kit.training import arguments, longest, perturb, rows, sail_trainer
from peft import LoraConfig

from sail import SAILConfig, SAILTrainer
from sail.support import sharding

Load = Callable[[], Any]
LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")


def example(page: str, heading: str, model: Path) -> str:
    """The first block of Python below a heading, with a local model in place of the one that it names."""
    text = (ROOT / page).read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1]
    code = re.search(r"```python\n(.*?)```", text, re.S)
    assert code is not None
    named = '"HuggingFaceTB/SmolLM2-135M-Instruct"'
    assert code[1].count(named) == 1
    return code[1].replace(named, repr(str(model)))


def run_in(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(compile(code, "example", "exec"), names)
    return names["trainer"]


@pytest.mark.skipif(torch.accelerator.is_available(), reason="the example without an accelerator")
def test_the_whole_example_of_docs_sail_runs_as_printed(
    tmp_path: Path, tiny_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = run_in(tmp_path, example("docs/sail.md", "From start to end", tiny_dir), monkeypatch)
    log = trainer.state.log_history[-1]
    assert trainer.state.global_step == 3
    assert math.isfinite(log["train_loss"])
    assert log["rewards/brevity/mean"] < 0
    assert (trainer.args.bf16, trainer.args.gradient_checkpointing) == (False, False)
    assert (tmp_path / "out" / "checkpoint-3" / "adapter_model.safetensors").is_file()


@pytest.mark.skipif(torch.accelerator.is_available(), reason="the example without an accelerator")
def test_the_example_of_docs_sail_runs_as_printed(
    tmp_path: Path, tiny_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [{"prompt": f"Say {i}.", "chosen": str(i), "rejected": f"It is {i}."} for i in range(8)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    trainer = run_in(tmp_path, example("docs/sail.md", "In five lines", tiny_dir), monkeypatch)
    assert trainer.state.global_step == 3
    assert trainer.state.log_history[-1]["share/pr"] > 0


def test_the_users_word_on_arguments_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Off without an accelerator and with ``use_cpu``, TRL's own with one; explicit values stay."""

    def chosen(**given: Any) -> tuple[bool, bool]:
        args = SAILConfig(output_dir=str(tmp_path), **given)
        return bool(args.bf16), bool(args.gradient_checkpointing)

    monkeypatch.setattr("sail.config.has_accelerator", lambda: False)
    assert chosen() == (False, False)
    assert chosen(gradient_checkpointing=True, bf16=True, use_cpu=True) == (True, True)
    monkeypatch.setattr("sail.config.has_accelerator", lambda: True)
    assert chosen(use_cpu=True) == (False, False)
    assert chosen(bf16=False) == (False, True)
    assert chosen(bf16=False, gradient_checkpointing=False) == (False, False)
    assert SAILConfig(output_dir=str(tmp_path), bf16=False).logging_nan_inf_filter is False
    shown = SAILConfig(output_dir=str(tmp_path), bf16=False, logging_nan_inf_filter=True)
    assert shown.logging_nan_inf_filter is True


def texts(count: int = 8, long: int = 3) -> list[dict[str, Any]]:
    """Plain rows, of which one has a prompt that no limit leaves room for."""
    return [
        {"prompt": "a" * (60 if i == long else 3) + str(i), "chosen": "yes", "rejected": "no"} for i in range(count)
    ]


def build(folder: Path, load: Load, tokenizer: Any, data: Any, **changes: Any) -> SAILTrainer:
    options = {k: changes.pop(k) for k in ("eval_dataset", "preference", "ref_model") if k in changes}
    reference = options.pop("ref_model", None) or load()
    args = SAILConfig(**arguments(folder, **changes))
    return SAILTrainer(load(), reference, args, train_dataset=data, processing_class=tokenizer, **options)


def test_ids_do_not_depend_on_what_is_dropped(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """TRL drops the row whose prompt fills ``max_length``; the rows behind it keep their noise."""
    data = Dataset.from_list([row | {"strength": float(i)} for i, row in enumerate(texts())])
    trainer = build(tmp_path, load, tokenizer, data, max_length=32, eval_dataset=data)
    assert trainer.train_dataset["example_id"][:] == [0, 1, 2, 4, 5, 6, 7]
    assert trainer.eval_dataset["example_id"][:] == [0, 1, 2, 4, 5, 6, 7]
    trainer = build(tmp_path, load, tokenizer, data, max_length=32, min_strength=2.5, curriculum="wide-to-narrow")
    assert trainer.train_dataset["example_id"][:] == [7, 6, 5, 4]


def test_options_for_training_leave_an_eval_set_of_that_name_alone(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    data = Dataset.from_list([row | {"strength": float(i)} for i, row in enumerate(rows(6))])
    trainer = build(tmp_path, load, tokenizer, data, min_strength=3.0, eval_dataset={"train": data})
    assert (len(trainer.train_dataset), len(trainer.eval_dataset["train"])) == (3, 6)


@pytest.mark.parametrize("name", ["train", "eval"])
def test_ids_are_checked_in_both_sets(tmp_path: Path, load: Load, tokenizer: Any, name: str) -> None:
    twice = [row | {"example_id": 1} for row in rows(4)]
    sets = {"train": Dataset.from_list(rows(4))} | {name: Dataset.from_list(twice)}
    with pytest.raises(ValueError, match=f"example_id of the {name} set is 1 in rows 0 and 1"):
        build(tmp_path, load, tokenizer, sets["train"], eval_dataset=sets.get("eval"))


def test_evaluation_on_a_new_set_with_stored_references(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """The reference's forwards get no column that a model does not know."""
    trainer = build(tmp_path, load, tokenizer, Dataset.from_list(rows(8)), precompute_ref_log_probs=True)
    log = trainer.evaluate(Dataset.from_list(rows(4, seed=5)).remove_columns("example_id"))
    assert log["eval_loss"] == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.parametrize("form", ["text", "ids"])
def test_a_stream_trains_as_the_whole_data_set_does(tmp_path: Path, load: Load, tokenizer: Any, form: str) -> None:
    """Same ids, noise and order: same losses and weights, over more than one epoch."""
    data = rows(8) if form == "ids" else texts(long=-1)
    data = [{k: v for k, v in row.items() if k != "example_id"} for row in data]
    settings = {"pr_share": 0.5, "dp_share": 0.2, "preference": longest, "max_new_tokens": 4, "max_steps": 4}
    results = []
    for dataset in (
        Dataset.from_list(data),
        Dataset.from_list(data).to_iterable_dataset(),
        IterableDataset.from_generator(lambda: iter(data)),
    ):
        trainer = build(tmp_path, load, tokenizer, dataset, train_sampling_strategy="sequential", **settings)
        trainer.train()
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        results.append((losses, [p.detach() for p in trainer.model.parameters()]))
    assert len(results[0][0]) == 4
    for losses, weights in results[1:]:
        assert losses == results[0][0]
        assert all(torch.equal(a, b) for a, b in zip(weights, results[0][1], strict=True))


def test_images_are_refused(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    data = Dataset.from_list([row | {"images": ["x"]} for row in texts()])
    with pytest.raises(ValueError, match="SAILTrainer trains on text, and the train set has a column 'images'"):
        build(tmp_path, load, tokenizer, data)


@pytest.mark.parametrize("engine", ["FSDP1", "DeepSpeed"])
@pytest.mark.parametrize("by", ["launcher", "state", "arguments"])
def test_sharded_weights_are_refused_on_online_routes(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch, engine: str, by: str
) -> None:
    """Before a model is loaded; offline nothing is sampled, and nothing refused."""
    online = SAILConfig(**arguments(tmp_path, pp_share=0.5))
    offline = SAILConfig(**arguments(tmp_path))
    assert sharding(online) is None
    kind = engine.rstrip("1").upper()
    if by == "launcher":
        monkeypatch.setenv(f"ACCELERATE_USE_{kind}", "true")
    elif by == "state":
        monkeypatch.setitem(AcceleratorState._shared_state, "distributed_type", f"DistributedType.{kind}")
    else:
        name = {"FSDP": "fsdp_plugin_args", "DEEPSPEED": "deepspeed_plugin"}[kind]
        monkeypatch.setattr(online, name, {"fsdp_version": 1})
        monkeypatch.setattr(offline, name, {"fsdp_version": 1})
    assert sharding(offline) == engine
    with pytest.raises(ValueError, match=f"the routes pp and pr do not run under {engine}: "):
        SAILTrainer(model="no such model", ref_model="none", args=online, train_dataset=Dataset.from_list(rows()))
    with pytest.raises(ValueError, match="no config.json in it"):
        SAILTrainer(model="no such model", ref_model="none", args=offline, train_dataset=Dataset.from_list(rows()))


def test_fsdp2_is_refused_for_other_generators_and_term_norms_alone(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gathers the policy's weights for sampling, and those of no other model."""
    data = Dataset.from_list(rows())
    refused = {
        "lagged_generator and other_generator do not run under FSDP2": {"lagged_generator": 0.5},
        "term_norms_every does not run under FSDP2": {"term_norms_every": 1},
        "no config.json in it": {},
    }
    for words, options in refused.items():
        args = SAILConfig(**arguments(tmp_path, pp_share=0.5, **options))
        monkeypatch.setattr(args, "fsdp_plugin_args", {"fsdp_version": 2})
        assert sharding(args) == "FSDP2"
        with pytest.raises(ValueError, match=words):
            SAILTrainer(model="no such model", ref_model="none", args=args, train_dataset=data)


def test_the_model_card_names_sail(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    trainer = sail_trainer(tmp_path / "my-model", load, tokenizer, rows(), max_steps=1, save_strategy="steps")
    trainer.train()
    card = (tmp_path / "my-model" / "README.md").read_text()
    title = "SAIL: Self-Improving Efficient Online Alignment of Large Language Models"
    assert (
        f"This model was trained with SAIL, a method introduced in [{title}](https://huggingface.co/papers/2406.15567)."
        in card
    )
    assert "- sail\n" in card
    assert "Cite SAIL as:" in card
    assert "arXiv preprint arXiv:2406.15567" in card
    assert "Direct Preference Optimization" not in card


def forwards(trainer: Any) -> list[bool]:
    """Notes for each forward of the policy whether it builds a graph."""
    seen: list[bool] = []
    base = trainer.model.get_base_model() if hasattr(trainer.model, "get_base_model") else trainer.model
    base.model.register_forward_pre_hook(lambda module, inputs: seen.append(torch.is_grad_enabled()))
    return seen


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_simpo_needs_no_reference_and_runs_none(tmp_path: Path, load: Load, tokenizer: Any, lora: bool) -> None:
    """Full fine-tuning without ``ref_model``; no forward of a reference; same steps as with one in memory."""
    settings: dict[str, Any] = {"pair_loss": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "ref_model": None}
    settings |= {"pr_share": 0.5, "dp_share": 0.2, "preference": longest, "max_new_tokens": 4}
    if lora:
        settings["peft_config"] = LORA
    trainer = sail_trainer(tmp_path, load, tokenizer, rows(), **settings)
    assert trainer.ref_model is None
    assert trainer.args.precompute_ref_log_probs is False
    phases = []
    trainer.clock.log = lambda name, value: phases.append(name)
    trainer.train()
    assert "seconds/generate" in phases
    assert "seconds/reference" not in phases
    logs = [row for row in trainer.state.log_history if "loss" in row]
    assert all("kl" not in row for row in logs)
    assert sum("score/std" in row for row in logs) > 0
    with_kl = sail_trainer(tmp_path, load, tokenizer, rows(), **(settings | {"ref_model": None if lora else load()}),
                           kl_penalty=1e-12)  # fmt: skip
    with_kl.train()
    again = [row for row in with_kl.state.log_history if "loss" in row]
    assert [row["loss"] for row in logs] == pytest.approx([row["loss"] for row in again], rel=1e-5)
    assert any("kl" in row for row in again)


def test_simpo_is_evaluated_without_a_reference(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """The mean pair loss of plain forwards, also on a set that comes later and with ``precompute_ref_log_probs``."""
    trainer = sail_trainer(
        tmp_path, load, tokenizer, rows(), pair_loss="simpo", beta=2.0, simpo_gamma=0.4, ref_model=None,
        precompute_ref_log_probs=True,
    )  # fmt: skip
    model, held_out = perturb(load(), scale=0.1), rows(4, seed=5)
    perturb(trainer.model, scale=0.1)
    losses = []
    for row in held_out:
        means = []
        for side in ("chosen_ids", "rejected_ids"):
            ids = torch.tensor([row["prompt_ids"] + row[side]])
            with torch.no_grad():
                logps = torch.log_softmax(model(input_ids=ids).logits[0, :-1], -1).gather(-1, ids[0, 1:, None])
            means.append(logps[-len(row[side]) :].mean())
        losses.append(-torch.nn.functional.logsigmoid(2.0 * (means[0] - means[1]) - 0.4))
    log = trainer.evaluate(Dataset.from_list(held_out))
    assert log["eval_loss"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)


@pytest.mark.parametrize("needs", [{"kl_penalty": 0.1}, {"start_generator": 0.5}])
def test_simpo_asks_for_a_reference_that_is_read(
    tmp_path: Path, load: Load, tokenizer: Any, needs: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="full fine-tuning needs ref_model"):
        sail_trainer(
            tmp_path, load, tokenizer, rows(), pair_loss="simpo", pp_share=0.5, ref_model=None, **needs
        )  # fmt: skip


def test_a_reference_that_nothing_reads_is_left_out_aloud(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    with pytest.warns(UserWarning, match="pair_loss='simpo' reads no reference: ref_model is left out"):
        trainer = sail_trainer(tmp_path, load, tokenizer, rows(), pair_loss="simpo", ref_model=load())
    assert trainer.ref_model is None
    with pytest.raises(ValueError, match="sync_ref_model=True has no effect, since pair_loss='simpo'"):
        sail_trainer(tmp_path, load, tokenizer, rows(), pair_loss="simpo", ref_model=None, sync_ref_model=True)


def test_self_labels_of_stored_references_need_none_in_memory(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """SAIL-DP on data with reference log-probabilities: full fine-tuning without ``ref_model`` is the same."""
    losses = []
    for reference in (None, load()):
        trainer = sail_trainer(
            tmp_path, load, tokenizer, rows(), dp_share=0.5, precompute_ref_log_probs=True, ref_model=reference
        )
        assert (trainer.ref_model is None) is (reference is None)
        perturb(trainer.model)
        trainer.train()
        losses.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
