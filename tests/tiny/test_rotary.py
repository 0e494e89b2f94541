"""Rotary factors that change with the longest sequence of a batch: no batch and no answer passes that length."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from kit.random_models import PAD, answer_logps, plain_logps, random_ids, random_model
from kit.training import rows, sail_trainer

from harness.answer.policy import Policy
from harness.answer.sampler_check import check_sampler
from harness.answer.window import window_of
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.errors import UserError
from harness.recipe.recipe import TrainSpec
from harness.train.settings import arguments
from sail.rotary import constant_rotary_length
from sail.sampling import sample
from sail.types import Request

BOUNDARY = 48
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [1.0, 1.3, 5.0, 48.0],
    "original_max_position_embeddings": BOUNDARY,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}


def longrope(**changes: Any) -> Any:
    settings = {"sliding_window": None, "original_max_position_embeddings": BOUNDARY, "rope_parameters": dict(LONG)}
    return random_model("Phi3", **settings | changes)


class Words:
    """A tokenizer as far as the guard needs one."""

    pad_token_id = PAD

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [3 + sum(map(ord, word)) % 190 for word in text.split()]}


def policy(model: Any) -> Policy:
    tokenizer = SimpleNamespace(pad_token_id=PAD, eos_token_id=2)
    return Policy(model, tokenizer, "random", meter=Meter(Ledger()), cache=None)


def test_the_window_ends_where_the_factors_change() -> None:
    """The embeddings of transformers are the same up to that length and others from the next token on."""
    model = longrope()
    assert constant_rotary_length(model.config) == window_of(model.config) == BOUNDARY
    assert _cosines(model, BOUNDARY).equal(_cosines(model, 2))
    assert not _cosines(model, BOUNDARY + 1).equal(_cosines(model, 2))
    scaled = random_model("Llama", max_position_embeddings=BOUNDARY, rope_parameters=DYNAMIC)
    assert constant_rotary_length(scaled.config) == window_of(scaled.config) == BOUNDARY
    assert _cosines(scaled, BOUNDARY).equal(_cosines(scaled, 2))
    assert not _cosines(scaled, BOUNDARY + 1).equal(_cosines(scaled, 2))


def _cosines(model: Any, length: int) -> torch.Tensor:
    """Of the first two positions, in a sequence of that length."""
    cosines: torch.Tensor = model.model.rotary_emb(torch.zeros(1), torch.arange(length)[None])[0][:, :2]
    return cosines


def test_other_models_have_none() -> None:
    yarn = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
    for model in (random_model("Llama", rope_parameters=yarn), random_model("GPT2"), random_model("Gemma3")):
        assert constant_rotary_length(model.config) is None
        assert window_of(model.config) == 512


def test_a_set_of_factors_for_each_type_of_layer() -> None:
    plain = {"rope_type": "default", "rope_theta": 10000.0}
    config = transformers.Gemma3TextConfig(rope_parameters={"full_attention": LONG, "sliding_attention": plain})
    assert constant_rotary_length(config) == BOUNDARY


def test_within_it_the_sampler_and_scores_are_plain_forwards() -> None:
    model = longrope()
    check_sampler(model, Words(), [2])
    prompts = [random_ids(n, n) for n in (5, 20, 33)]
    requests = [Request(prompt, 15, 1.0, ("r", i)) for i, prompt in enumerate(prompts)]
    answers = sample(model, requests, eos_ids=[-1], pad_id=PAD)
    rows = [(prompt, answer.ids) for prompt, answer in zip(prompts, answers, strict=True)]
    for (prompt, ids), answer, logps in zip(rows, answers, policy(model).token_logps(rows), strict=True):
        expected = answer_logps(model, prompt, ids)
        np.testing.assert_allclose(answer.logps, expected, atol=1e-5)
        np.testing.assert_allclose(logps, expected, atol=1e-5)


def test_beyond_it_a_text_would_depend_on_its_batch() -> None:
    """What is refused: the same text beside a longer one has other log-probabilities."""
    model, text = longrope(), random_ids(20, 1)
    longer = torch.tensor([[*text, *([PAD] * 40)]])
    with torch.no_grad():
        beside = model(input_ids=longer, use_cache=False).logits[0, : len(text)].log_softmax(-1)
    assert (beside - plain_logps(model, text)).abs().max() > 0.1
    with pytest.raises(UserError, match=f"A prompt of 40 tokens with an answer of 9 passes the {BOUNDARY} tokens"):
        policy(model).token_logps([(random_ids(40, 1), random_ids(9, 2))])
    with pytest.raises(ValueError, match="has 49 tokens, but the rotary factors of the model change after 48: lower"):
        sample(model, [Request(random_ids(40, 1), 9, 1.0, ("r", 0))], eos_ids=[-1], pad_id=PAD)


@pytest.mark.parametrize(("length", "multiple"), [(None, None), (BOUNDARY + 1, None), (BOUNDARY - 1, 32)])
def test_training_needs_a_limit_within_it(tmp_path: Path, tokenizer: Any, length: Any, multiple: Any) -> None:
    def load() -> Any:
        return longrope(vocab_size=261)

    limit = 32 if multiple else BOUNDARY
    with pytest.raises(ValueError, match=f"set max_length to at most {limit}, not {length}"):
        sail_trainer(tmp_path, load, tokenizer, rows(), max_length=length, pad_to_multiple_of=multiple)
    sail_trainer(tmp_path, load, tokenizer, rows(), max_length=limit, pad_to_multiple_of=multiple)


def test_trainers_of_a_comparison_stay_within_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ``train.max_length`` allows, as the imported pairs do."""
    longrope().config.save_pretrained(tmp_path)
    monkeypatch.setattr("harness.train.settings.planned_steps", lambda context: 1)
    for allowed, expected in ((32, 32), (512, BOUNDARY)):
        train = TrainSpec(batch_size=2, max_length=allowed)
        rates = {"learning_rate": 1e-5, "seed": 0, "precision": "float32", "generation_batch_size": 4}
        context: Any = SimpleNamespace(start=tmp_path, directory=tmp_path, train=train, **rates)
        assert arguments(context)["max_length"] == expected
