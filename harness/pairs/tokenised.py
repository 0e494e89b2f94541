"""Imported pairs as stored pairs: ids by the model's own chat template, log-probabilities under the start policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.answer.chat import Messages, messages_of, render
from harness.answer.continuations import PromptAndAnswer
from harness.answer.policy import Policy
from harness.answer.row_costs import RowCosts, charge_stored_costs
from harness.answer.window import window_of
from harness.store.json_files import Row, digest

Ids = list[int]

REFUSED_BY_TEMPLATE = "refused by the chat template"
LONG_PROMPT, LONG_PAIR = "prompts too long", "pairs too long"
CUT, EQUAL_CUT = "cut at train.max_length", "equal after the cut"


@dataclass(frozen=True)
class LengthLimits:
    """Most tokens of a ``prompt``, and in ``total`` of a prompt with an answer.

    ``cut``: shorten a longer answer, as TRL does, instead of dropping the pair.
    """

    prompt: int
    total: int
    cut: bool = False


def context_window(policy: Policy) -> int:
    """Most tokens that the model holds, by its configuration."""
    return window_of(policy.model.config)


class PairIds(NamedTuple):
    """Token ids of a pair. Each answer follows the prompt."""

    prompt: Ids
    chosen: Ids
    rejected: Ids


def pair_ids(tokenizer: Any, row: Row) -> PairIds:
    """Ids of an imported pair, as TRL's DPOTrainer makes them of conversations.

    An answer is the whole conversation's ids without those of the prompt. What a template writes after the
    end-of-sequence token (a line break, say) is left out, and that token is added where a template writes none.
    """
    messages = messages_of(row)
    prompt = render(tokenizer, messages)
    conversations = [
        _conversation_ids(tokenizer, [*messages, {"role": "assistant", "content": row[side]}])
        for side in ("chosen", "rejected")
    ]
    cut = min(_common_length(prompt, ids) for ids in conversations)
    chosen, rejected = (_with_end(tokenizer, ids[cut:]) for ids in conversations)
    return PairIds(prompt[:cut], chosen, rejected)


def _conversation_ids(tokenizer: Any, messages: Messages) -> Ids:
    ids: Ids = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    return ids


def _common_length(first: Ids, second: Ids) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def _with_end(tokenizer: Any, ids: Ids) -> Ids:
    """An answer that ends with the end-of-sequence token."""
    end = tokenizer.eos_token_id
    length = len(ids) - ids[::-1].index(end) if end in ids else 0
    if length and not tokenizer.decode(ids[length:]).strip():
        return ids[:length]
    return [*ids, end]


class KeptRows(NamedTuple):
    """The rows that stay, and how many others were left out (or cut), by reason."""

    rows: list[Row]
    left_out: dict[str, int]


def tokenised_pairs(
    policy: Policy,
    rows: Sequence[Row],
    limits: LengthLimits,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> KeptRows:
    """Imported pairs as :mod:`harness.pairs.sampled` stores them.

    Args:
        policy: the start policy, which gives the reference log-probabilities.
        rows: rows with ``id``, a prompt, ``chosen`` and ``rejected``.
        limits: pairs beyond them are left out or cut.
        batch_size: rows of a forward pass.
        progress: called with the number of answers that have their log-probability.
    """
    counts = Counter[str]()
    stored: list[Row] = []
    for row in rows:
        try:
            prompt, chosen, rejected = pair_ids(policy.tokenizer, row)
        except Exception:  # noqa: BLE001 - templates raise many kinds of errors
            counts[REFUSED_BY_TEMPLATE] += 1
            continue
        room = limits.total - len(prompt)
        if len(prompt) > limits.prompt or room <= 0:
            counts[LONG_PROMPT] += 1
            continue
        if max(len(chosen), len(rejected)) > room:
            if not limits.cut:
                counts[LONG_PAIR] += 1
                continue
            chosen, rejected = chosen[:room], rejected[:room]
            counts[EQUAL_CUT if chosen == rejected else CUT] += 1
            if chosen == rejected:
                continue
        rewards: Row = {k: row[k] for k in ("chosen_reward", "rejected_reward") if k in row}
        ids = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        stored.append({"id": row["id"], **ids, **rewards})
    answers = [(row["prompt_ids"], row[side]) for row in stored for side in ("chosen_ids", "rejected_ids")]
    logps = reference_logps(policy, answers, batch_size, progress)
    for i, row in enumerate(stored):
        for side, logp in zip(("chosen", "rejected"), logps[2 * i : 2 * i + 2], strict=True):
            row |= {f"{side}_stopped": row[f"{side}_ids"][-1] in policy.eos_ids, f"ref_{side}_logps": logp}
    return KeptRows(stored, dict(sorted(counts.items())))


def fitting_prompts(policy: Policy, rows: Sequence[Row], max_tokens: int) -> KeptRows:
    """The rows whose prompts the chat template accepts and that are short enough.

    Args:
        policy: its tokenizer counts.
        rows: rows with ``prompt`` or ``messages``.
        max_tokens: most tokens of a prompt, with the assistant's turn opened.
    """
    fitting, counts = [], Counter[str]()
    for row in rows:
        try:
            fits = len(render(policy.tokenizer, messages_of(row))) <= max_tokens
        except Exception:  # noqa: BLE001 - templates raise many kinds of errors
            counts[REFUSED_BY_TEMPLATE] += 1
            continue
        if fits:
            fitting.append(row)
        else:
            counts[LONG_PROMPT] += 1
    return KeptRows(fitting, dict(sorted(counts.items())))


def reference_logps(
    policy: Policy,
    rows: Sequence[PromptAndAnswer],
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> list[float]:
    """Summed log-probability (nats) of each answer given its prompt.

    Results are cached batch by batch together with their cost. A cached result is charged its cost again, so that the
    price does not depend on what the cache happened to hold.

    Args:
        policy: the start policy; its meter is charged.
        rows: (prompt ids, answer ids).
        batch_size: rows of a forward pass.
        progress: called with the number of finished rows.
    """
    keys = [digest(["reference", 1, policy.identity, list(prompt), list(answer)]) for prompt, answer in rows]
    results = {key: (value[0], value[1]) for key, value in policy.read_cache(keys).items()}
    charge_stored_costs(policy.meter, (cost for _, cost in results.values()))
    if progress is not None and results:
        progress(len(results))
    uncached_policy = policy.without_cache()
    missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in results}
    order = sorted(missing, key=lambda key: sum(map(len, missing[key])))
    costs = RowCosts(policy.meter)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        logps = uncached_policy.token_logps([missing[key] for key in batch], batch_size)
        cost = costs.of_batch(len(batch))
        new_results = {key: (sum(values), cost) for key, values in zip(batch, logps, strict=True)}
        policy.write_cache(new_results)
        results |= new_results
        if progress is not None:
            progress(len(batch))
    return [results[key][0] for key in keys]
