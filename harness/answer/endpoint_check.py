"""Whether a model behind an endpoint can be asked: its key, its server and its name, before anything is asked."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from harness.answer.provider_error import REFUSING_ALL, status_error
from harness.errors import Problem
from harness.recipe.endpoint import Endpoint

if TYPE_CHECKING:
    import httpx

OPENAI = "https://api.openai.com/v1"

SECONDS = 10.0
"""Without an answer, after which the endpoint counts as down."""

UNAUTHORISED = 401


def key_problems(what: str, endpoint: Endpoint) -> list[Problem]:
    """The variable with the key is not set, where a key is needed.

    Args:
        what: has the endpoint.
        endpoint: OpenAI's needs a key, others may need one.
    """
    if endpoint.base_url is not None or os.environ.get(endpoint.api_key_env):
        return []
    return [Problem(what, f"The model {endpoint.model!r} needs a key", f"set the variable {endpoint.api_key_env}")]


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
    import httpx

    base = (endpoint.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI).rstrip("/")
    key = os.environ.get(endpoint.api_key_env)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(timeout=min(SECONDS, endpoint.timeout), headers=headers) as client:
            refusal = _refusal(client, base, endpoint)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        sentence = f"The endpoint of the model {endpoint.model!r} does not answer ({reason})"
        return [Problem(what, sentence, f"start it, or correct base_url ({_place(base)})")]
    if not refusal:
        return []
    words = refusal.replace(key, "***") if key else refusal
    sentence = f"The endpoint of the model {endpoint.model!r} refuses ({words})"
    return [Problem(what, sentence, f"check model, base_url and {endpoint.api_key_env}")]


def _refusal(client: httpx.Client, base: str, endpoint: Endpoint) -> str:
    """Why the endpoint would refuse every question, in its own words; "" if it does not say so."""
    listed = client.get(f"{base}/models")
    if listed.status_code == UNAUTHORISED:
        problem = status_error(listed.status_code, _body(listed))
        return "" if "scope" in problem.words.lower() else problem.text  # a key may be for questions alone
    names = _names(_body(listed)) if listed.is_success else []
    if not names or endpoint.model in names:
        return ""
    question = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, "temperature": 0.0}
    answer = client.post(f"{base}/chat/completions", json=endpoint.request(question))
    return status_error(answer.status_code, _body(answer)).text if answer.status_code in REFUSING_ALL else ""


def _names(listed: Any) -> list[str]:
    """Names of models in a list of models; empty if it is none."""
    rows = listed.get("data") if isinstance(listed, dict) else None
    return [str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row] if isinstance(rows, list) else []


def _body(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text


def _place(base: str) -> str:
    """An address without a user's name and password."""
    return re.sub(r"//[^/@]*@", "//", base)
