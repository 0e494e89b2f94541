"""Brought pairs as stored pairs: ids by the model's own chat template, log-probabilities under the start policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.answer.chat import Messages, render, turns
from harness.answer.policy import Policy
from harness.store.json_files import digest

Row = dict[str, Any]

Ids = list[int]

REFUSED, LONG_PROMPT, LONG_PAIR = "refused by the chat template", "prompts too long", "pairs too long"

CUT, EQUAL_CUT = "cut at train.max_length", "equal after the cut"


@dataclass(frozen=True)
class Limits:
    """Most tokens of a prompt, and of a prompt with an answer; ``cut``: shorten such an answer, as TRL does, instead of
    dropping the pair."""

    prompt: int
    total: int
    cut: bool = False


def window(policy: Policy) -> int:
    """Most tokens that the model holds, by its configuration."""
    found = getattr(policy.model.config, "max_position_embeddings", None)
    return int(found) if found else 10**9


def pair_ids(tokenizer: Any, row: Row) -> tuple[Ids, Ids, Ids]:
    """Prompt, chosen and rejected ids of a brought row, as TRL's DPOTrainer makes them of conversations: an answer is
    the whole conversation's ids without those of the prompt. What a template writes after the end-of-sequence token (a
    line break, say) is left out, and that token is added where a template writes none."""
    asked = turns(row)
    prompt = render(tokenizer, asked)
    wholes = [_rendered(tokenizer, [*asked, {"role": "assistant", "content": row[s]}]) for s in ("chosen", "rejected")]
    cut = min(_shared(prompt, whole) for whole in wholes)
    chosen, rejected = (_ended(tokenizer, whole[cut:]) for whole in wholes)
    return prompt[:cut], chosen, rejected


def _rendered(tokenizer: Any, messages: Messages) -> Ids:
    ids: Ids = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    return ids


def _shared(first: Ids, second: Ids) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def _ended(tokenizer: Any, ids: Ids) -> Ids:
    end = tokenizer.eos_token_id
    last = len(ids) - ids[::-1].index(end) if end in ids else 0
    if last and not tokenizer.decode(ids[last:]).strip():
        return ids[:last]
    return [*ids, end]


def stored_pairs(
    policy: Policy, rows: Sequence[Row], limits: Limits, batch_size: int, progress: Callable[[int], None] | None = None
) -> tuple[list[Row], dict[str, int]]:
    """Rows as :mod:`harness.pairs.sampled` stores them, and how many were left out or cut, by reason."""
    tokenizer, lost = policy.tokenizer, Counter[str]()
    found: list[Row] = []
    for row in rows:
        try:
            prompt, chosen, rejected = pair_ids(tokenizer, row)
        except Exception:  # noqa: BLE001 - templates raise what they like
            lost[REFUSED] += 1
            continue
        room = limits.total - len(prompt)
        if len(prompt) > limits.prompt or room <= 0:
            lost[LONG_PROMPT] += 1
            continue
        if max(len(chosen), len(rejected)) > room:
            if not limits.cut:
                lost[LONG_PAIR] += 1
                continue
            chosen, rejected = chosen[:room], rejected[:room]
            lost[EQUAL_CUT if chosen == rejected else CUT] += 1
            if chosen == rejected:
                continue
        scores: Row = {k: row[k] for k in ("chosen_reward", "rejected_reward") if k in row}
        ids = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        found.append({"id": row["id"], **ids, **scores})
    sides = [(r["prompt_ids"], r[side]) for r in found for side in ("chosen_ids", "rejected_ids")]
    logps = priced_logps(policy, sides, batch_size, progress)
    for i, row in enumerate(found):
        for side, logp in zip(("chosen", "rejected"), logps[2 * i : 2 * i + 2], strict=True):
            row |= {f"{side}_stopped": row[f"{side}_ids"][-1] in policy.eos_ids, f"ref_{side}_logps": logp}
    return found, dict(sorted(lost.items()))


def readable(policy: Policy, rows: Sequence[Row], limit: int) -> tuple[list[Row], dict[str, int]]:
    """The rows whose prompts the template takes and ``limit`` tokens hold, and how many are left out, by reason."""
    kept, lost = [], Counter[str]()
    for row in rows:
        try:
            fits = len(render(policy.tokenizer, turns(row))) <= limit
        except Exception:  # noqa: BLE001 - templates raise what they like
            lost[REFUSED] += 1
            continue
        if fits:
            kept.append(row)
        else:
            lost[LONG_PROMPT] += 1
    return kept, dict(sorted(lost.items()))


def priced_logps(
    policy: Policy,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> list[float]:
    """Summed log-probability (nats) of each completion given (prompt ids, completion ids).

    Kept batch by batch with what each cost; what is there already is charged that again, for a price that does not
    depend on what happened to be there.
    """
    keys = [digest(["reference", 1, policy.identity, list(prompt), list(answer)]) for prompt, answer in rows]
    found = {key: (value[0], value[1]) for key, value in policy.kept(keys).items()}
    for _, cost in found.values():
        for quantity, amount in cost.items():
            policy.meter.charge(quantity, amount)
    if progress is not None and found:
        progress(len(found))
    bare = policy.uncached()
    unique = {key: row for key, row in zip(keys, rows, strict=True) if key not in found}
    order = sorted(unique, key=lambda key: sum(map(len, unique[key])))
    before = policy.meter.reading()
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        logps = bare.token_logps([unique[key] for key in part], batch_size)
        now = policy.meter.reading()
        cost = {q: round((now[q] - before.get(q, 0)) / len(part), 6) for q in now if now[q] != before.get(q, 0)}
        before = now
        fresh = {key: (sum(values), cost) for key, values in zip(part, logps, strict=True)}
        policy.keep(fresh)
        found |= fresh
        if progress is not None:
            progress(len(part))
    return [found[key][0] for key in keys]
