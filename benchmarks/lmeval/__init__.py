"""MMLU and ARC-Challenge as lm-eval defines them, and any other single task of lm-eval as ``lm_eval:TASK``.

lm-eval is used as a library, on the policy in memory: its task definitions, prompts, examples, filters and metrics. The
log-likelihoods equal those of its own ``HFLM`` (:mod:`benchmarks.lmeval.model`).
"""

from benchmarks.lmeval.any_task import AnyTask
from benchmarks.lmeval.benchmark import LMEval
from benchmarks.lmeval.official import ARC0, ARC25, MMLU5, ARC0Chat, ARC25Chat, MMLU5Chat

__all__ = ["ARC0", "ARC25", "MMLU5", "ARC0Chat", "ARC25Chat", "AnyTask", "LMEval", "MMLU5Chat"]
