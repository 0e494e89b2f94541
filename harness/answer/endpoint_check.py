"""Whether a model behind an endpoint can be asked: its key, its server and its name, before anything is asked."""

from __future__ import annotations

import os
from typing import Any

from harness.answer.provider_error import REFUSING_ALL, status_error
from harness.errors import Problem, UserError
from harness.recipe.endpoint import Endpoint
from harness.store.foreign_text import error_text
from harness.store.redaction import shown_address

SECONDS = 10.0
"""For one request, after which the endpoint counts as down."""

UNAUTHORISED = 401


def key_problems(what: str, endpoint: Endpoint) -> list[Problem]:
    """The variable with the key is not set, where a key is needed; or no header can hold what it is set to.

    Args:
        what: has the endpoint.
        endpoint: OpenAI's needs a key, others may need one.
    """
    variable = endpoint.api_key_env
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        return [Problem(what, f"The key in {variable} holds a character that no header takes", "set it again")]
    if endpoint.base_url is not None or key:
        return []
    return [Problem(what, f"The model {endpoint.model!r} needs a key", f"set the variable {variable}")]


def endpoint_problems(what: str, endpoint: Endpoint) -> list[Problem]:
    """Why an endpoint could not answer now; empty if nothing speaks against it.

    It is asked for the list of its models. Only if that list lacks the model, one request for one token shows whether
    it is there. Neither is a question of a benchmark: nothing is kept or counted.

    Args:
        what: has the endpoint.
        endpoint: to look at.
    """
    if problems := key_problems(what, endpoint):
        return problems
    import asyncio

    import httpx

    from harness.answer.http_replies import BodyError

    try:
        refusal = asyncio.run(_refusal(endpoint))
    except UserError as error:
        return [Problem.of(what, error)]
    except (httpx.HTTPError, httpx.InvalidURL, BodyError, TimeoutError) as error:
        reason = "it took too long" if isinstance(error, TimeoutError) else error_text(_first_cause(error))
        sentence = f"The endpoint of the model {endpoint.model!r} does not answer ({reason})"
        address = shown_address(endpoint.base_url or os.environ.get("OPENAI_BASE_URL") or "OpenAI's")
        return [Problem(what, sentence, f"start it, or correct its address {address} (base_url, or --judge-url)")]
    if not refusal:
        return []
    sentence = f"The endpoint of the model {endpoint.model!r} refuses ({error_text(refusal)})"
    return [Problem(what, sentence, f"check model, base_url and {endpoint.api_key_env}")]


def _first_cause(error: BaseException) -> BaseException:
    """What an error of a connection came from, such as that nothing listens there; itself if that has no words."""
    cause: BaseException | None = error
    while cause is not None and str(cause):
        error = cause
        cause = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__ or cause.__context__
    return error if str(error) else ValueError(type(error).__name__)


async def _refusal(endpoint: Endpoint) -> str:
    """Why the endpoint would refuse every question, in its own words; "" if it does not say so."""
    from harness.answer.http_replies import http_client, send

    seconds = min(SECONDS, endpoint.timeout)
    async with http_client(endpoint) as client:
        listed = await send(client, "GET", "/models", seconds=seconds)
        if listed.status == UNAUTHORISED:
            problem = status_error(listed.status, listed.json_or_text())
            return "" if "scope" in problem.words.lower() else problem.text  # a key may be for questions alone
        names = _names(listed.json_or_text()) if listed.is_success else []
        if not names or endpoint.model in names:
            return ""
        question = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, "temperature": 0.0}
        content = endpoint.request(question)
        answer = await send(client, "POST", "/chat/completions", seconds=seconds, content=content)
        return status_error(answer.status, answer.json_or_text()).text if answer.status in REFUSING_ALL else ""


def _names(listed: Any) -> list[str]:
    """Names of models in a list of models; empty if it is none."""
    rows = listed.get("data") if isinstance(listed, dict) else None
    return [str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row] if isinstance(rows, list) else []
