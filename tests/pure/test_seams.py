"""The pinned TRL and transformers seams that ``sail`` overrides: a change of signature fails here first."""

from __future__ import annotations

import inspect

from trl import DPOTrainer

SEAMS = {
    "_compute_loss": ["self", "model", "inputs", "return_outputs"],
    "compute_loss": ["self", "model", "inputs", "return_outputs", "num_items_in_batch"],
    "_prepare_dataset": ["self", "dataset", "processing_class", "args", "dataset_name"],
    "_precompute_ref_logps": ["self", "dataset", "name", "batch_size"],
    "_set_signature_columns_if_needed": ["self"],
    "compute_ref_log_probs": ["self", "model", "inputs"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
    "log": ["self", "logs", "start_time"],
    "get_batch_samples": ["self", "epoch_iterator", "num_batches", "device"],
}


def test_signatures() -> None:
    for name, expected in SEAMS.items():
        assert list(inspect.signature(getattr(DPOTrainer, name)).parameters) == expected, name


def test_the_switch_for_masked_positions_exists() -> None:
    """``score_completions_only`` replaces this function in the module that reads it."""
    from trl.trainer import utils

    assert "compact = _use_triton(hidden_states.device)" in inspect.getsource(utils.add_fused_lm_head)


def test_loss_scaling_flag_exists() -> None:
    assert DPOTrainer.loss_is_scaled_for_ga is False
