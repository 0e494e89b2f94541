"""A start policy or a reward model that is an adapter: merged into its base, against PEFT's own model, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from harness.answer.load import load_model, load_tokenizer
from harness.answer.start_policy import build_start, start_stage
from harness.errors import UserError
from harness.oracles.reward_model import RewardModel, RewardModelOptions, conversation_ids
from harness.recipe.train import LoraSpec
from harness.store.stages import Store
from harness.train.settings import lora_config

IDS = torch.tensor([[3, 8, 200, 17, 33, 256, 4]])

ATTENTION = ["q_proj", "v_proj"]

KINDS: dict[str, Callable[[], Any]] = {
    "lora": lambda: peft.LoraConfig(r=4, target_modules=ATTENTION, task_type="CAUSAL_LM"),
    "dora": lambda: peft.LoraConfig(r=4, target_modules=ATTENTION, use_dora=True, task_type="CAUSAL_LM"),
    "head": lambda: peft.LoraConfig(r=4, target_modules=["lm_head", "v_proj"], task_type="CAUSAL_LM"),
    "embeddings": lambda: peft.LoraConfig(r=4, target_modules=ATTENTION, modules_to_save=["embed_tokens"]),
    "tied": lambda: peft.LoraConfig(
        r=4, target_modules=ATTENTION, modules_to_save=["embed_tokens"], ensure_weight_tying=True
    ),
    "loha": lambda: peft.LoHaConfig(r=4, target_modules=ATTENTION, task_type="CAUSAL_LM"),
    "ia3": lambda: peft.IA3Config(
        target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
    ),
    "norms": lambda: peft.LNTuningConfig(target_modules=["norm"], task_type="CAUSAL_LM"),
}
"""Kinds of adapters that can be merged. The model's embeddings and LM head are one weight."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A small random Llama whose embeddings are tied, saved with its tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = LlamaConfig(
        **{"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True, "initializer_range": 0.2},
        **{"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id},
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_adapter(base: Path, out: Path, config: Any, model: Any = None) -> Any:
    """Save a random adapter in ``out``; returns PEFT's model of the base and the saved adapter."""
    adapted = get_peft_model(model or AutoModelForCausalLM.from_pretrained(base), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn(weight.shape))
    adapted.save_pretrained(out)
    return adapted.eval()


def logps(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.to("cpu")(input_ids=IDS).logits.log_softmax(-1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_policy_is_base_and_adapter(kind: str, base: Path, tmp_path: Path) -> None:
    """Against PEFT's model, once it is loaded, and with a new adapter that is off, as online methods refer to it."""
    adapted = make_adapter(base, tmp_path / "adapter", KINDS[kind]())
    expected = logps(adapted)
    start = build_start(str(tmp_path / "adapter"), Store(tmp_path / "store"))
    assert not (start / "adapter_config.json").exists()
    assert logps(load_model(start)) == pytest.approx(expected, abs=2e-5)
    assert (logps(AutoModelForCausalLM.from_pretrained(base)) - expected).abs().max() > 0.1
    policy = load_model(start)
    policy = get_peft_model(policy, lora_config(LoraSpec(r=2), policy))
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.3)
    with policy.disable_adapter():
        assert logps(policy) == pytest.approx(expected, abs=2e-5)
    tied = kind not in ("head", "embeddings")
    weights = load_model(start)
    assert (weights.lm_head.weight is weights.model.embed_tokens.weight) == tied
    assert load_tokenizer(start).get_vocab() == load_tokenizer(base).get_vocab()  # the adapter came without one


def test_weights_beside_the_adapter_are_its_base(base: Path, tmp_path: Path) -> None:
    """As in transformers: the base that ``adapter_config.json`` names, which is another here, does not count."""
    other, both = tmp_path / "other", tmp_path / "both"
    shutil.copytree(base, other)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.model.norm.weight.data += 1
    model.save_pretrained(both)
    adapted = make_adapter(base, both, KINDS["lora"](), model)
    config = json.loads((both / "adapter_config.json").read_text())
    load_tokenizer(base).save_pretrained(both)
    for named in (str(other), str(both), None):
        (both / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": named}))
        start = build_start(str(both), Store(tmp_path / "store"))
        assert logps(load_model(start)) == pytest.approx(logps(adapted), abs=2e-5)
    own = AutoModelForCausalLM.from_pretrained(both)  # transformers' own reading of such a folder
    assert logps(own) == pytest.approx(logps(adapted), abs=2e-5)


def test_adapter_on_adapter_and_half_precision(base: Path, tmp_path: Path) -> None:
    """The base may be an adapter in turn; a base in bfloat16 stays so."""
    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(half)
    load_tokenizer(base).save_pretrained(half)
    first = make_adapter(half, tmp_path / "first", KINDS["lora"](), load_model(half))
    merged = first.merge_and_unload()
    merged.config._name_or_path = merged.name_or_path = str(tmp_path / "first")
    config = peft.LoraConfig(r=2, target_modules=["o_proj"], task_type="CAUSAL_LM")
    second = make_adapter(tmp_path / "first", tmp_path / "second", config, merged)
    assert second.peft_config["default"].base_model_name_or_path == str(tmp_path / "first")
    start = build_start(str(tmp_path / "second"), Store(tmp_path / "store"))
    loaded = AutoModelForCausalLM.from_pretrained(start, dtype="auto")
    assert {weight.dtype for weight in loaded.parameters()} == {torch.bfloat16}
    assert (logps(load_model(start)) - logps(second)).abs().max() < 0.1  # rounded to bfloat16 twice
    assert (logps(load_model(start)) - logps(load_model(half))).abs().max() > 0.5


def test_words_that_came_with_the_adapter(base: Path, tmp_path: Path) -> None:
    """An adapter that was trained with more embeddings than its base has brings them along."""
    tokenizer, model = load_tokenizer(base), AutoModelForCausalLM.from_pretrained(base)
    tokenizer.add_tokens(["<new>"])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    adapted = make_adapter(base, tmp_path / "adapter", KINDS["embeddings"](), model)
    tokenizer.save_pretrained(tmp_path / "adapter")
    start = build_start(str(tmp_path / "adapter"), Store(tmp_path / "store"))
    assert load_tokenizer(start).convert_tokens_to_ids("<new>") == len(tokenizer) - 1
    loaded = load_model(start)
    assert loaded.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert logps(loaded) == pytest.approx(logps(adapted), abs=2e-5)


def test_the_key_knows_adapter_and_base(base: Path, tmp_path: Path) -> None:
    own, adapter = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(base, own)
    make_adapter(own, adapter, KINDS["lora"]())
    key = start_stage(str(adapter)).key
    shutil.copytree(adapter, tmp_path / "copy")
    assert start_stage(str(tmp_path / "copy")).key == key != start_stage(str(own)).key
    config = own / "config.json"
    config.write_text(config.read_text().replace("1e-06", "1e-05"))
    assert start_stage(str(adapter)).key != key
    settings = json.loads((adapter / "adapter_config.json").read_text())
    for revision, expected in ((None, "main"), ("abc", "abc")):
        hub = settings | {"base_model_name_or_path": "some/base", "revision": revision}
        (adapter / "adapter_config.json").write_text(json.dumps(hub))
        assert start_stage(str(adapter)).inputs["base"] == {"hub": "some/base", "revision": expected}


def refusal(adapter: Path, tmp_path: Path) -> str:
    with pytest.raises(UserError) as caught:
        build_start(str(adapter), Store(tmp_path / "store"))
    assert not (tmp_path / "store" / "stages").exists()
    return str(caught.value)


PROMPTS: dict[str, Callable[[], Any]] = {
    "PROMPT_TUNING": lambda: peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
    "PREFIX_TUNING": lambda: peft.PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
    "P_TUNING": lambda: peft.PromptEncoderConfig(num_virtual_tokens=4, encoder_hidden_size=8, task_type="CAUSAL_LM"),
}


@pytest.mark.parametrize("kind", PROMPTS)
def test_prompts_that_were_learnt_cannot_be_merged(kind: str, base: Path, tmp_path: Path) -> None:
    make_adapter(base, tmp_path / "adapter", PROMPTS[kind]())
    assert f"({kind}) cannot be merged into its base (it adds to the prompt" in refusal(tmp_path / "adapter", tmp_path)


def test_what_acts_on_some_tokens_alone_cannot_be_merged(base: Path, tmp_path: Path) -> None:
    """An activated LoRA acts after its invocation tokens. PEFT merges it all the same, or raises an error."""
    config = KINDS["lora"]()
    config.alora_invocation_tokens = [5, 6]
    make_adapter(base, tmp_path / "adapter", config)
    assert "(LORA) cannot be merged into its base" in refusal(tmp_path / "adapter", tmp_path)


def test_merged_weights_that_give_other_logits(base: Path, tmp_path: Path) -> None:
    """Layers that an adapter repeats share their base's weights, so that merging adds all their changes to each."""
    config = KINDS["lora"]()
    config.layer_replication = [[0, 2], [1, 2]]
    make_adapter(base, tmp_path / "adapter", config)
    sentence = refusal(tmp_path / "adapter", tmp_path)
    assert "(LORA) cannot be merged into its base (its logits change by up to " in sentence


def test_weights_for_which_the_base_has_no_place(base: Path, tmp_path: Path) -> None:
    """The first two layers of a deeper base would be changed, and the others' changes be dropped."""
    deep, adapter = tmp_path / "deep", tmp_path / "adapter"
    config = AutoModelForCausalLM.from_pretrained(base).config
    config.num_hidden_layers = 3
    config.layer_types = None
    AutoModelForCausalLM.from_config(config).save_pretrained(deep)
    make_adapter(deep, adapter, KINDS["lora"]())
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": str(base)}))
    assert "does not fit its base" in (sentence := refusal(adapter, tmp_path))
    assert "the base has no place for 4 of its weights, such as base_model.model.model.layers.2." in sentence


def test_adapters_that_were_saved_under_a_name(base: Path, tmp_path: Path) -> None:
    """PEFT saves ``default`` in the directory and others below; states of a training do not count."""
    both, adapted = tmp_path / "both", make_adapter(base, tmp_path / "both", KINDS["lora"]())
    shutil.copytree(both, both / "checkpoint-8")
    before = start_stage(str(both)).key
    adapted.add_adapter("second", KINDS["lora"]())
    adapted.save_pretrained(both)
    assert f"{both} holds an adapter, and another in {both / 'second'}: set 'model:' to" in refusal(both, tmp_path)
    start_stage(str(both / "second"))
    shutil.move(both / "second", tmp_path / "named" / "mine")
    assert start_stage(str(both)).key == before
    sentence = refusal(tmp_path / "named", tmp_path)
    assert f"'model:' to the one that is meant, such as {tmp_path / 'named' / 'mine'}" in sentence
    shutil.copytree(base, tmp_path / "named", dirs_exist_ok=True)
    start_stage(str(tmp_path / "named"))  # a model, whatever lies below


def test_what_is_no_base_of_the_adapter(base: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    make_adapter(base, adapter, KINDS["lora"]())
    settings = json.loads((adapter / "adapter_config.json").read_text())

    def named(value: Any) -> str:
        (adapter / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": value}))
        return refusal(adapter, tmp_path)

    assert named(None).endswith("names no base: set base_model_name_or_path in its adapter_config.json")
    assert "names itself as its base" in named(str(adapter))
    assert f"The base {tmp_path / 'away'} of the adapter {adapter} does not exist" in named(str(tmp_path / "away"))
    assert "The base nobody/nothing of the adapter" in named("nobody/nothing")
    quantised = tmp_path / "quantised"
    shutil.copytree(base, quantised)
    config = json.loads((quantised / "config.json").read_text())
    method = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    (quantised / "config.json").write_text(json.dumps(config | method))
    assert f"The base {quantised} of the adapter {adapter} is quantised (gptq)" in named(str(quantised))
    wide = tmp_path / "wide"
    shutil.copytree(base, wide)
    (wide / "config.json").write_text(json.dumps(config | {"num_attention_heads": 2, "num_key_value_heads": 1}))
    model = AutoModelForCausalLM.from_config(
        AutoModelForCausalLM.from_pretrained(base).config.__class__(**config | {"hidden_size": 64, "head_dim": 16})
    )
    model.save_pretrained(wide)
    assert "does not fit its base" in named(str(wide))


def test_an_adapter_can_be_a_reward_model(base: Path, tmp_path: Path) -> None:
    """Its head is in the adapter; without one, a language model is no reward model."""
    head = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    head.config.pad_token_id = 257
    config = peft.LoraConfig(r=4, target_modules=ATTENTION, task_type="SEQ_CLS")
    adapted = make_adapter(base, tmp_path / "adapter", config, head)
    oracle = RewardModel(RewardModelOptions(model=str(tmp_path / "adapter"), batch_size=2))
    rows, texts = [{"prompt": f"Question {i}?"} for i in range(3)], ["no", "a longer answer", "yes"]
    expected = []
    for row, text in zip(rows, texts, strict=True):
        with torch.no_grad():
            ids = torch.tensor([conversation_ids(oracle.tokenizer, row, text)])
            expected.append(float(adapted(input_ids=ids).logits))
    assert oracle.score(rows, texts) == pytest.approx(expected, abs=1e-4)
    assert len({round(e, 4) for e in expected}) == 3
    make_adapter(base, tmp_path / "language", KINDS["lora"]())
    for model in (tmp_path / "language", base):
        with pytest.raises(UserError, match=r"lacks the weights score\.weight"):
            RewardModel(RewardModelOptions(model=str(model))).load()


def test_peft_reads_the_adapter_as_we_do(base: Path, tmp_path: Path) -> None:
    """The expected numbers above come from a model in memory; those of its files are the same."""
    adapted = make_adapter(base, tmp_path / "adapter", KINDS["lora"]())
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter").eval()
    assert torch.equal(logps(again), logps(adapted))
