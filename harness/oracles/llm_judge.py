"""``llm_judge``: a language model behind an OpenAI-compatible endpoint compares two answers, in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field

from harness.answer.chat import Prompt
from harness.answer.client import Client
from harness.answer.endpoint_check import endpoint_problems
from harness.answer.reply import Call
from harness.answer.verdict import ASK_FOR_CHOICE, TOKENS_FOR_CHOICE, Verdict, read_choice
from harness.errors import Problem, UserError
from harness.oracles.base import NoVerdict, Oracle, OracleOptions
from harness.recipe.endpoint import Endpoint
from harness.store.json_files import digest

PROMPT = f"""You will see a request and two answers to it. Which answer serves the person who asked better?

Request:
{{prompt}}

Answer A:
{{first}}

Answer B:
{{second}}

{ASK_FOR_CHOICE}"""


class LLMJudgeOptions(OracleOptions, Endpoint):
    """The judge's endpoint, and how it is asked.

    Attributes:
        temperature: of its replies.
        max_tokens: of a reply. A judge that is cut before its verdict gives none.
    """

    temperature: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=TOKENS_FOR_CHOICE, gt=0)


class LLMJudge(Oracle):
    """The probability that the first answer is better is the mean over both orders of 1, 0 or 0.5 (a tie).

    There is no verdict if one order has none (:func:`harness.answer.verdict.read_choice`); its reason is that of the
    first order without one.
    """

    name = "llm_judge"
    summary = "an LLM judge: pairwise, both orders, behind any OpenAI-compatible endpoint"
    unit = "win share"
    pairwise = True
    version = 3
    Options: ClassVar[type[OracleOptions]] = LLMJudgeOptions
    options: LLMJudgeOptions

    def identity(self) -> dict[str, Any]:
        """What can change a verdict; not where the key is, what a request may cost or how many run at once."""
        options = self.options
        return {
            "oracle": self.name,
            "version": self.version,
            **options.identity(),
            "temperature": options.temperature,
            "max_tokens": options.max_tokens,
            "prompt": digest(PROMPT),
        }

    def ready(self) -> list[Problem]:
        """Its key is not set, or its endpoint does not answer."""
        return endpoint_problems(f"oracle {self.name}", self.options)

    @cached_property
    def _client(self) -> Client:
        return Client(self.options, self.cache)

    def prefer(self, rows: Sequence[Prompt], firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
        """Ask about both orders of each pair (see :meth:`harness.oracles.base.Oracle.prefer`). Verdicts that were paid
        for before come from the cache.

        Raises:
            UserError: the judge did not answer all questions.
        """
        questions = [
            PROMPT.format(prompt=row["prompt"], first=a, second=b)
            for row, first, second in zip(rows, firsts, seconds, strict=True)
            for a, b in ((first, second), (second, first))
        ]
        verdicts = self._verdicts(questions)
        return [_both_orders(*verdicts[i : i + 2]) for i in range(0, len(verdicts), 2)]

    def _verdicts(self, questions: list[str]) -> list[Verdict[float]]:
        options = self.options
        calls = [Call((("user", text),), options.temperature, options.max_tokens) for text in questions]
        replies = self._client.ask(calls)
        failed = next((r.error for r in replies if r.unanswered), None)
        if failed:
            raise UserError(
                f"The judge {options.model!r} does not answer ({failed}): the same command asks again what is open"
            )
        return [read_choice(reply) for reply in replies]


def _both_orders(forward: Verdict[float], backward: Verdict[float]) -> float:
    """The share of the first answer, which is in slot A in the first order and in slot B in the second."""
    if forward.value is None or backward.value is None:
        return NoVerdict(forward.reason or backward.reason)
    return (forward.value + 1 - backward.value) / 2
