"""``llm_judge``: a language model behind an OpenAI-compatible endpoint compares two answers, in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field

from harness.answer.chat import Prompt
from harness.answer.client import Client
from harness.answer.reply import Call
from harness.errors import UserError
from harness.oracles.base import Oracle, OracleOptions
from harness.recipe.endpoint import Endpoint
from harness.store.json_files import digest

PROMPT = """You will see a request and two answers to it. Which answer serves the person who asked better?

Request:
{prompt}

Answer A:
{first}

Answer B:
{second}

Reply with one letter, A or B, or with the word tie."""

VERDICTS = {"a": 1.0, "b": 0.0, "tie": 0.5}


class LLMJudgeOptions(OracleOptions):
    """``model``: name of the judge (a dated snapshot, if there is one). ``base_url``: another endpoint than OpenAI's.
    ``api_key_env``: variable with the key. ``concurrency``: requests at once. ``retries``: of a failed request."""

    model: str
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    temperature: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=16, gt=0)
    concurrency: int = Field(default=8, gt=0)
    retries: int = Field(default=4, ge=0)


class LLMJudge(Oracle):
    """The probability that the first answer is better is the mean over both orders of 1, 0 or 0.5 (a tie).

    There is no verdict if one order has none: an unreadable reply, an empty one, or a refusal.
    """

    name = "llm_judge"
    summary = "an LLM judge: pairwise, both orders, behind any OpenAI-compatible endpoint"
    unit = "win share"
    pairwise = True
    version = 2
    Options: ClassVar[type[OracleOptions]] = LLMJudgeOptions
    options: LLMJudgeOptions

    def identity(self) -> dict[str, Any]:
        """What can change a verdict; not where the key is or how many requests run at once. The endpoint is named by a
        hash, since results are published and host names are not."""
        full = super().identity() | {"prompt": digest(PROMPT), "endpoint": digest(self.options.base_url)}
        return {k: v for k, v in full.items() if k not in ("api_key_env", "concurrency", "retries", "base_url")}

    @cached_property
    def _client(self) -> Client:
        names = ("model", "base_url", "api_key_env", "concurrency", "retries")
        return Client(Endpoint(**{name: getattr(self.options, name) for name in names}), self.cache)

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
        return [(verdicts[2 * i] + 1 - verdicts[2 * i + 1]) / 2 for i in range(len(rows))]

    def _verdicts(self, questions: list[str]) -> list[float]:
        options = self.options
        calls = [Call((("user", text),), options.temperature, options.max_tokens) for text in questions]
        replies = self._client.ask(calls)
        failed = next((r.error for r in replies if r.unanswered), None)
        if failed:
            raise UserError(
                f"The judge {options.model!r} does not answer ({failed}): the same command asks again what is open"
            )
        return [parse_verdict(reply.text or "") for reply in replies]


def parse_verdict(text: str) -> float:
    """1 for A, 0 for B, 0.5 for a tie, NaN for anything else. The first word of the reply decides, else the last."""
    words = [w for w in (part.strip(".,:;!*\"'()[]").lower() for part in text.split()) if w]
    return next((VERDICTS[w] for w in (*words[:1], *words[-1:]) if w in VERDICTS), float("nan"))
