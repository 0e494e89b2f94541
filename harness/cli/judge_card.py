"""``sail-bench judge-card``: how far a judge can be trusted, measured on pairs with known preferences."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from harness.cli.terminal import say
from harness.errors import UserError
from harness.store.storage import unwritable

if TYPE_CHECKING:
    from harness.judge.card_answers import CardAnswers
    from harness.judge.card_pairs import LabelledPair

FOLDER = click.Path(path_type=Path)

ENDPOINT = ("base_url", "api_key_env", "concurrency", "retries", "timeout", "max_requests", "max_cost")

REQUEST = ("token_limit", "send_temperature", "fold_system", "reasoning_effort", "extra_body")

FLAGS = {"send_temperature": "no-temperature", "fold_system": "fold-system"}
"""Names on the command line of options without a value."""

PRICES = ("price_in", "price_out")

ASKING = ("temperature", "max_tokens", "verdict")


@click.command("judge-card")
@click.argument("judge")
@click.option("--pairs", type=FOLDER, metavar="FILE", help="JSONL of prompt, chosen, rejected (docs/judge-card.md).")
@click.option("--data-dir", type=FOLDER, metavar="DIR", help="Folder with preference/*.jsonl, instead of --pairs.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Use the first N usable pairs."
)
@click.option("--model", metavar="NAME|DIR", help="The local judge's model (smollm2, tiny, a directory).")
@click.option("--base-url", metavar="URL", help="Another OpenAI-compatible endpoint than OpenAI's.")
@click.option("--api-key-env", metavar="NAME", help="Variable with the key (OPENAI_API_KEY).")
@click.option("--concurrency", type=click.IntRange(min=1), help="Requests at once (16).")
@click.option("--retries", type=click.IntRange(min=0), help="Of one request that failed (5).")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds for one request (120).")
@click.option("--max-requests", type=click.IntRange(min=0), help="Stop there (0: no cap).")
@click.option("--max-cost", type=click.FloatRange(min=0), help="Stop there, in the currency of the prices.")
@click.option("--price-in", type=click.FloatRange(min=0), help="For a million tokens in.")
@click.option("--price-out", type=click.FloatRange(min=0), help="For a million tokens out.")
@click.option("--temperature", type=click.FloatRange(min=0), help="Of the endpoint's answers (0).")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Of an answer (1024); more if it thinks long.")
@click.option(
    "--verdict", type=click.Choice(["logprobs", "text"]), help="`text` for endpoints that refuse log-probabilities."
)
@click.option(
    "--token-limit",
    type=click.Choice(["max_tokens", "max_completion_tokens"]),
    help="How the endpoint calls the limit on an answer's tokens (max_tokens).",
)
@click.option(
    "--no-temperature", "send_temperature", flag_value=False, default=None, help="For models that refuse a temperature."
)
@click.option(
    "--fold-system", flag_value=True, default=None, help="For models without a system turn: it opens the user's."
)
@click.option("--reasoning-effort", metavar="LEVEL", help="For models that reason.")
@click.option("--extra-body", metavar="JSON", help="Further parameters of each request, as a JSON object.")
@click.option("--results", type=FOLDER, show_default="results/local, which git ignores", help="Where judges/ is.")
@click.option("--store", type=FOLDER, default=Path(".sail-bench"), show_default=True, help="Where answers are kept.")
def judge_card(judge: str, **options: Any) -> None:
    """Measure JUDGE (`local`, or a model behind an OpenAI-compatible endpoint) on pairs with known preferences.

    Agreement, position bias, length bias, self-consistency, cost and speed, each with a 95% interval; written to
    results/local/judges/, where your leaderboards link it. Answers are kept: the same command again asks nothing.
    """
    from rich.console import Console

    from harness.judge.card_figures import card_section, with_section
    from harness.judge.card_pairs import read_pairs
    from harness.report.judge_card import card_page, section_table, usage_text
    from harness.report.judge_citation import FOLDER as CARDS
    from harness.score.judge_cards import read_card
    from harness.score.results import LOCAL
    from harness.store.json_files import digest, file_digest, write_json, write_text

    _check(judge, options)
    path = _pairs(options["pairs"], options["data_dir"])
    pairs, without_preference = read_pairs(path, options["limit"])
    setup = _local(options) if judge == "local" else _endpoint(judge, options)
    card_path = (options["results"] or LOCAL) / CARDS / f"{digest(setup.identity)}.json"
    old_card = read_card(card_path) if card_path.is_file() else None
    answers = setup.ask(pairs)
    data = {
        "file": path.name,
        "sha256": file_digest(path),
        "pairs": digest([list(p) for p in pairs]),
        "used": len(pairs),
        "equal": without_preference,
    }
    today = datetime.now(UTC).date().isoformat()
    command = _command(judge, path, options)
    new = card_section(data, setup.protocol, answers.items, answers.usage, command, today)
    card = with_section(old_card, setup.identity, new)
    page_path = card_path.with_suffix(".md")
    try:
        write_json(card_path, card.model_dump(mode="json"))
        write_text(page_path, card_page(card))
    except OSError as error:
        raise unwritable(card_path.parent, error, "set --results", "The folder ") from None
    shown = next(s for s in card.sections if s.id == new.id)
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    console.print(section_table(shown))
    say(usage_text(shown).replace("**", "").replace("`", ""))
    if answers.usage["unanswered"]:
        say(f"{answers.usage['unanswered']} calls are unanswered: the same command asks them again.", err=True)
    say(f"Card: {page_path}. Leaderboards link it once 'sail-bench leaderboard' has rewritten them.")


def _check(judge: str, options: dict[str, Any]) -> None:
    """Options that do nothing for this judge are mistakes."""
    foreign = (*ENDPOINT, *REQUEST, *PRICES, *ASKING) if judge == "local" else ("model",)
    given = next((name for name in foreign if options[name] is not None), None)
    if given:
        kind = "an endpoint" if judge == "local" else "the local judge (sail-bench judge-card local)"
        flag = FLAGS.get(given, given.replace("_", "-"))
        raise UserError(f"--{flag} is for {kind}: leave it out, or name the judge that it is for")


def _pairs(file: Path | None, folder: Path | None) -> Path:
    from harness.judge.card_pairs import pairs_file

    if file is not None:
        return file
    if folder is None:
        raise UserError("A card needs pairs with known preferences: give --pairs FILE or --data-dir DIR")
    return pairs_file(folder)


class _Setup(NamedTuple):
    """A judge's identity and the protocol of its card, both JSON records, and the function that asks it."""

    identity: dict[str, Any]
    protocol: dict[str, Any]
    ask: Callable[[Sequence[LabelledPair]], CardAnswers]


def _local(options: dict[str, Any]) -> _Setup:
    from harness.answer.start_policy import start_stage
    from harness.judge.prompts import identity

    model = options["model"] or "smollm2"
    judge = identity(start_stage(model).key)

    def ask(pairs: Sequence[LabelledPair]) -> CardAnswers:
        from transformers.utils.logging import disable_progress_bar

        from harness.judge.card_local import ask_local

        disable_progress_bar()
        with _progress_shown("local judge", len(pairs)) as progress:
            return ask_local(model, options["store"], pairs, progress)

    protocol = {"question": judge["prompts"], "orders": judge["orders"], "version": judge["version"]}
    return _Setup(judge, protocol, ask)


def _endpoint(name: str, options: dict[str, Any]) -> _Setup:
    from pydantic import ValidationError

    from harness.answer.client import Client
    from harness.judge.card_endpoint import AskSettings, ask_endpoint
    from harness.recipe.endpoint import Endpoint
    from harness.recipe.faults import faults_of
    from harness.store.row_cache import RowCache

    def given(*names: str) -> dict[str, Any]:
        return {n: options[n] for n in names if options[n] is not None}

    settings = AskSettings(**given(*ASKING))
    wanted = given(*ENDPOINT, *REQUEST, *PRICES)
    try:
        if "extra_body" in wanted:
            wanted["extra_body"] = json.loads(wanted["extra_body"])
        endpoint = Endpoint(model=name, **wanted)
    except json.JSONDecodeError as error:
        raise UserError(f"--extra-body is not JSON ({error.msg}): write an object, as '{{\"top_k\": 1}}'") from None
    except ValidationError as error:
        first = faults_of(error, Endpoint, wanted)[0]
        option = str(first.place[0]) if first.place else "max_cost"
        raise UserError(f"--{option.replace('_', '-')}: {first.text}") from None

    def ask(pairs: Sequence[LabelledPair]) -> CardAnswers:
        client = Client(endpoint, RowCache(options["store"] / "rows.sqlite"))
        with _progress_shown(name, 3 * len(pairs)) as progress:
            return ask_endpoint(client, pairs, settings, progress)

    return _Setup({"kind": "endpoint", **endpoint.identity()}, settings.protocol(), ask)


@contextmanager
def _progress_shown(judge: str, total: int) -> Iterator[Callable[[int], None]]:
    from harness.run.progress import Display

    with Display(1, what="judge card") as display:
        work = display.begin(judge)
        work.stage("asking about pairs in both orders", total)
        yield work.at


def _command(judge: str, path: Path, options: dict[str, Any]) -> str:
    """The command as a page may print it: no folders, no addresses."""
    words = [f"sail-bench judge-card {judge}"]
    if options["base_url"]:
        words.append("--base-url URL")
    if options["model"] and options["model"] != "smollm2":
        words.append(f"--model {'DIR' if '/' in options['model'] else options['model']}")
    words += [f"--{n.replace('_', '-')} {options[n]}" for n in ASKING if options[n] is not None]
    words += [f"--{FLAGS[n]}" for n in FLAGS if options[n] is not None]
    plain = [n for n in REQUEST if n not in FLAGS and options[n] is not None]
    words += [f"--{n.replace('_', '-')} {shlex.quote(options[n])}" for n in plain]
    return " ".join([*words, f"--pairs {path.name}", f"--limit {options['limit']}"])
