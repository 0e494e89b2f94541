"""Imported pairs as stored pairs: ids by the model's own chat template, log-probabilities under the start policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, overload

from harness.answer.answer_ids import answer_ids, text_marks
from harness.answer.chat import messages_of, render
from harness.answer.final_answer import is_blank
from harness.answer.policy import Policy
from harness.answer.row_costs import RowCosts, charge_stored_costs
from harness.answer.scored_positions import PromptAndAnswer
from harness.answer.window import window_of
from harness.pairs.advice import (
    CUT,
    EMPTY_RENDERED,
    EQUAL_CUT,
    EQUAL_RENDERED,
    LONG_PAIR,
    LONG_PROMPT,
    REFUSED_BY_TEMPLATE,
)
from harness.store.json_files import Row, digest
from harness.store.versions import LOGPS_VERSION

Ids = list[int]

OTHER_PROMPT = "trained after another prompt than the one asked"
SPECIAL, ENDED = "hold special tokens", "end in an end token already (taken once)"


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
    """Token ids of a pair. Each answer follows the prompt; ``asked`` is the prompt as a policy is asked."""

    prompt: Ids
    chosen: Ids
    rejected: Ids
    asked: Ids


def pair_ids(tokenizer: Any, row: Row, end_ids: Sequence[int]) -> PairIds:
    """Ids of an imported pair, as TRL's DPOTrainer makes them of conversations, up to the id that ends each answer.

    Args:
        tokenizer: its chat template writes the conversations.
        row: with a prompt, ``chosen`` and ``rejected``.
        end_ids: ids that end a sampled answer of the model.
    """
    ids = answer_ids(tokenizer, messages_of(row), [row["chosen"], row["rejected"]], end_ids)
    return PairIds(ids.prompt, ids.answers[0], ids.answers[1], ids.asked)


class KeptRows(NamedTuple):
    """The rows that stay, how many others were left out (or cut), and what of those that stay is worth a note; both by
    reason."""

    rows: Sequence[Row]
    left_out: dict[str, int]
    kept: dict[str, int]


@dataclass
class _Counts:
    """Counts rows by reason. Of the refusals of a template the reason of the first is shown."""

    left_out: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)

    def refused(self, error: Exception) -> None:
        self.refusals.append(" ".join(str(error).split())[:200] or type(error).__name__)

    def of(self, rows: Sequence[Row]) -> KeptRows:
        refused = {f"{REFUSED_BY_TEMPLATE}: {self.refusals[0]!r}": len(self.refusals)} if self.refusals else {}
        return KeptRows(rows, dict(sorted({**self.left_out, **refused}.items())), dict(sorted(self.kept.items())))


class PairTokeniser:
    """Turns imported pairs into rows as :mod:`harness.pairs.sampled` stores them, but for the log-probabilities.

    Args:
        policy: its tokenizer and the ids that end its answers count.
        limits: pairs beyond them are left out or cut.
    """

    def __init__(self, policy: Policy, limits: LengthLimits) -> None:
        self._tokenizer, self._end_ids, self._limits = policy.tokenizer, policy.eos_ids, limits
        self._counts = _Counts()

    def rows(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The pairs that stay.

        Args:
            rows: with ``id``, a prompt, ``chosen`` and ``rejected``.
        """
        tokenizer, end_ids, counts = self._tokenizer, self._end_ids, self._counts
        for row in rows:
            try:
                ids = pair_ids(tokenizer, row, end_ids)
            except Exception as error:  # noqa: BLE001 - templates raise many kinds of errors
                counts.refused(error)
                continue
            fitting, reason = _fitting(tokenizer, ids, self._limits)
            if reason:
                counts.left_out[reason] += 1
            if fitting is None:
                continue
            counts.kept.update(_notes(tokenizer, row, ids, end_ids))
            rewards: Row = {k: row[k] for k in ("chosen_reward", "rejected_reward") if k in row}
            stopped = {f"{side}_stopped": fitting[f"{side}_ids"][-1] in end_ids for side in ("chosen", "rejected")}
            yield {"id": row["id"], "prompt_ids": ids.prompt, **fitting, **stopped, **rewards}

    def counted(self, rows: Sequence[Row]) -> KeptRows:
        """With what was counted; ``rows``: all that :meth:`rows` gave."""
        return self._counts.of(rows)


def tokenised_pairs(policy: Policy, rows: Iterable[Row], limits: LengthLimits) -> KeptRows:
    """All rows of a :class:`PairTokeniser`.

    Args:
        policy: see there.
        rows: with ``id``, a prompt, ``chosen`` and ``rejected``.
        limits: see there.
    """
    tokeniser = PairTokeniser(policy, limits)
    return tokeniser.counted(list(tokeniser.rows(rows)))


def _fitting(tokenizer: Any, ids: PairIds, limits: LengthLimits) -> tuple[dict[str, Ids] | None, str]:
    """The answers of a pair within the limits, None if it is left out; and why it is, or that it was cut."""
    chosen, rejected = ids.chosen, ids.rejected
    if chosen == rejected:
        return None, EQUAL_RENDERED
    if any(is_blank(tokenizer.decode(answer[:-1])) for answer in (chosen, rejected)):
        return None, EMPTY_RENDERED
    room, reason = limits.total - len(ids.prompt), ""
    if len(ids.prompt) > limits.prompt or room <= 0:
        return None, LONG_PROMPT
    if max(len(chosen), len(rejected)) > room:
        if not limits.cut:
            return None, LONG_PAIR
        chosen, rejected, reason = chosen[:room], rejected[:room], CUT
        if chosen == rejected:
            return None, EQUAL_CUT
    return {"chosen_ids": chosen, "rejected_ids": rejected}, reason


def _notes(tokenizer: Any, row: Row, ids: PairIds, end_ids: Sequence[int]) -> list[str]:
    """What the template does to a pair that is worth a note."""
    prompts = [text_marks(tokenizer, turn["content"], ()) for turn in messages_of(row)]
    answers = [text_marks(tokenizer, row[side], end_ids) for side in ("chosen", "rejected")]
    notes = {
        OTHER_PROMPT: ids.prompt != ids.asked,
        SPECIAL: any(marks.special for marks in (*prompts, *answers)),
        ENDED: any(marks.ended for marks in answers),
    }
    return [note for note, applies in notes.items() if applies]


def fitting_prompts(policy: Policy, rows: Sequence[Row], max_tokens: int) -> KeptRows:
    """The rows whose prompts the chat template accepts and that are short enough.

    Args:
        policy: its tokenizer counts.
        rows: rows with ``prompt`` or ``messages``.
        max_tokens: most tokens of a prompt, with the assistant's turn opened.
    """
    fitting, counts = [], _Counts()
    for row in rows:
        try:
            fits = len(render(policy.tokenizer, messages_of(row))) <= max_tokens
        except Exception as error:  # noqa: BLE001 - templates raise many kinds of errors
            counts.refused(error)
            continue
        if not fits:
            counts.left_out[LONG_PROMPT] += 1
            continue
        fitting.append(row)
        if any(text_marks(policy.tokenizer, turn["content"], ()).special for turn in messages_of(row)):
            counts.kept[SPECIAL] += 1
    return counts.of(fitting)


class _Answers(Sequence[PromptAndAnswer]):
    """Both answers of each row, chosen before rejected, each with its prompt."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return 2 * len(self._rows)

    @overload
    def __getitem__(self, place: int) -> PromptAndAnswer: ...

    @overload
    def __getitem__(self, place: slice) -> list[PromptAndAnswer]: ...

    def __getitem__(self, place: int | slice) -> PromptAndAnswer | list[PromptAndAnswer]:
        if isinstance(place, slice):
            return [self[i] for i in range(len(self))[place]]
        row = self._rows[place // 2]
        return row["prompt_ids"], row[_SIDES[place % 2]]

    def __iter__(self) -> Iterator[PromptAndAnswer]:
        return ((row["prompt_ids"], row[side]) for row in self._rows for side in _SIDES)


_SIDES = ("chosen_ids", "rejected_ids")


def with_reference_logps(
    policy: Policy, rows: Sequence[Row], batch_size: int, progress: Callable[[int], None] | None = None
) -> Iterator[Row]:
    """Rows of a :class:`PairTokeniser` with ``ref_chosen_logps`` and ``ref_rejected_logps``.

    Args:
        policy: the start policy.
        rows: pairs with ids.
        batch_size: rows of a forward pass.
        progress: called with the number of answers that have their log-probability.
    """
    logps = reference_logps(policy, _Answers(rows), batch_size, progress)
    for row, chosen, rejected in zip(rows, logps[::2], logps[1::2], strict=True):
        yield row | {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}


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
    begin = ["reference", LOGPS_VERSION, policy.identity]
    keys, lengths = [], []
    for prompt, answer in rows:
        keys.append(digest([*begin, list(prompt), list(answer)]))
        lengths.append(len(prompt) + len(answer))
    results = {key: (value[0], value[1]) for key, value in policy.read_cache(keys).items()}
    charge_stored_costs(policy.meter, (cost for _, cost in results.values()))
    if progress is not None and results:
        progress(len(results))
    uncached_policy = policy.without_cache()
    missing = {key: place for place, key in enumerate(keys) if key not in results}
    order = sorted(missing, key=lambda key: lengths[missing[key]])
    costs = RowCosts(policy.meter)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        logps = uncached_policy.token_logps([rows[missing[key]] for key in batch], batch_size)
        cost = costs.of_batch(len(batch))
        new_results = {key: (sum(values), cost) for key, values in zip(batch, logps, strict=True)}
        policy.write_cache(new_results)
        results |= new_results
        if progress is not None:
            progress(len(batch))
    return [results[key][0] for key in keys]
