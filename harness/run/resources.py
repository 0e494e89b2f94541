"""What the stages of a run share: models, oracles, judge, cache and ledger, loaded when first needed, and once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.methods.base import Method
from harness.oracles.base import Oracle
from harness.oracles.metered import MeteredOracle
from harness.recipe.recipe import Recipe
from harness.run.configure import make_oracle
from harness.run.ledger_file import LedgerFile
from harness.run.nodes import Node
from harness.store.environment import environment
from harness.store.row_cache import RowCache
from harness.store.stages import LEDGER, Stage, Store
from harness.store.tensor_cache import HIDDEN_STATES, LIMIT, TensorCache

if TYPE_CHECKING:
    from harness.answer.client import Client
    from harness.answer.held_models import HeldModels
    from harness.answer.load import Loading
    from harness.answer.lower_blocks import LowerBlocks
    from harness.answer.reply import Call, Reply

Emit = Callable[[str, Any], None]


class Oracles(NamedTuple):
    """Who labels in training, and who rewards in evaluation; one object if they are the same."""

    training: Oracle
    evaluation: Oracle


class Resources:
    """Models and meters of one run.

    Args:
        recipe: says which model, oracles, engine and judge.
        store: where the start policy and the cache of rows are.
        start: the node of the start policy.
        emit: gets events of progress: a kind and a value.
    """

    def __init__(self, recipe: Recipe, store: Store, start: Node, emit: Emit) -> None:
        self.recipe, self.store = recipe, store
        self.emit = emit
        self.cache = RowCache(store.root / "rows.sqlite", self._keep_before)
        self.ledger = Ledger()
        self.meter = Meter(self.ledger)
        self.unanswered = 0  # calls of the judge in the stage under way
        self.replaced = 0  # characters of its replies that could not be stored
        self.fault = ""  # of the last call without an answer
        self._start = start
        self._ledger_file: LedgerFile | None = None
        self._shown = ""

    @cached_property
    def start_dir(self) -> Path:
        """Directory of the start policy."""
        from harness.answer.start_policy import build_start

        self.emit("stage", ("start policy", None))
        return build_start(self.recipe.model, self.store, self.recipe.chat_template, self.recipe.chat_date)

    @cached_property
    def tokenizer(self) -> Any:
        """Tokenizer of the start policy, its chat template checked."""
        from harness.answer.load import load_tokenizer, saved_eos_ids
        from harness.answer.template_check import check_template

        tokenizer = load_tokenizer(self.start_dir)
        check_template(tokenizer, saved_eos_ids(self.start_dir, tokenizer))
        return tokenizer

    @cached_property
    def loading(self) -> Loading:
        """How the run's policies are loaded and computed with."""
        from harness.answer.load import Loading

        return Loading(self.recipe.precision, self.recipe.train.attention)

    @cached_property
    def models(self) -> HeldModels:
        """The policies in memory."""
        from harness.answer.held_models import HeldModels

        return HeldModels(self.start_dir, self.loading)

    @cached_property
    def start(self) -> Any:
        """The start policy in memory: sampler, reference, baseline and judge."""
        return self.policy(self.models.start(), self._start.key)

    @cached_property
    def start_served(self) -> Any:
        """The start policy as it is sampled."""
        return self.served(self.start)

    def policy(self, model: Any, identity: str, folder: Path | None = None) -> Any:
        """A model in memory as a metered, cached policy.

        Args:
            model: a :class:`~harness.answer.held_models.Held`.
            identity: names its weights.
            folder: where it is saved; None for the start policy.
        """
        from harness.answer.policy import Policy

        return Policy(
            model,
            self.tokenizer,
            self._computed(identity),
            meter=self.meter,
            cache=self.cache,
            batch_size=self.recipe.generation_batch_size,
            thinking=self.recipe.thinking,
            lower=self._lower(model.model, folder),
        )

    def _computed(self, identity: str) -> str:
        """The name of weights with the precision that they are computed in, unless it is the default."""
        return identity if self.recipe.arithmetic == "float32" else f"{identity}, {self.recipe.arithmetic}"

    def _lower(self, model: Any, folder: Path | None) -> LowerBlocks | None:
        """The lowest blocks of a policy (``folder``: where it is saved), if the comparison's policies share them."""
        from harness.answer.lower_blocks import LowerBlocks

        blocks = self._shared_blocks(model, folder)
        if not blocks:
            return None
        cache = TensorCache(self.store.root / HIDDEN_STATES)
        return LowerBlocks(model, blocks, self._computed(self._start.key), cache, partial(self.meter.charge, "seconds"))

    def _shared_blocks(self, model: Any, folder: Path | None) -> list[Any]:
        from harness.answer.load import shared_blocks

        lora = self.recipe.train.lora
        return shared_blocks(model, folder, lora.layers if lora else 0)

    def share_steps(self, model: Any) -> None:
        """Let a fresh copy of the start policy share its lower blocks with the other trainings of the comparison.

        Half of the cache is left to evaluation.
        """
        from harness.answer.lower_blocks import LowerBlocks
        from harness.train.shared_steps import SharedSteps
        from sail.prefill import backbone

        blocks = self._shared_blocks(model, None) if self.recipe.precision == "float32" else []
        if not blocks:
            return
        cache, identity = TensorCache(self.store.root / HIDDEN_STATES, LIMIT // 2), self._computed(self._start.key)
        make = partial(LowerBlocks, identity=identity, cache=cache, charge=self.meter.charge_step)
        backbone(model).forward = SharedSteps(model, blocks, make, self.meter)

    def trained(self, folder: Path, identity: str) -> Any:
        """The policy saved in a folder (weights, or an adapter of the start policy)."""
        return self.policy(self.models.trained(folder), identity, folder)

    @cached_property
    def engine(self) -> Any:
        """What samples in place of transformers, one for the process; None where the recipe names transformers."""
        spec = self.recipe.engine
        if spec.name == "transformers":
            return None
        from harness.answer.rollout_engine import EngineSettings, make_engine

        dtype = str(spec.options.get("dtype", "float32" if self.recipe.precision == "float32" else "bfloat16"))
        return make_engine(spec.name, EngineSettings(self.start_dir, dtype, self.recipe.train.lora, spec.options))

    def served(self, policy: Any, folder: Path | None = None) -> Any:
        """A policy as it is sampled: by the recipe's engine. ``folder``: of its weights; None for the start policy."""
        if self.engine is None:
            return policy
        from harness.answer.engine_policy import EnginePolicy

        return EnginePolicy.of(policy, self.engine, folder)

    @contextmanager
    def sampler(self, method: Method, folder: Path) -> Iterator[Any]:
        """What samples for a model in training by the recipe's engine; None where that is transformers.

        Args:
            method: that trains; one that does not sample needs no engine.
            folder: for the weights under way; removed at the end.
        """
        if self.engine is None or not method.spending().sampled:
            yield None
            return
        from harness.answer.engine_policy import EngineSampler

        sampler = EngineSampler(self.engine, folder, self.meter)
        try:
            yield sampler
        finally:
            sampler.close()

    @cached_property
    def oracles(self) -> Oracles:
        """The recipe's oracles."""
        training = make_oracle(self.recipe.oracle)
        spec = self.recipe.eval_oracle
        evaluation = training if spec is None or spec == self.recipe.oracle else make_oracle(spec)
        training.cache = evaluation.cache = self.cache
        training.attach = evaluation.attach = self.meter.attach
        training.chat_date = evaluation.chat_date = self.recipe.chat_date
        return Oracles(training, evaluation)

    @property
    def oracle(self) -> MeteredOracle:
        """The training oracle, metered into the current ledger."""
        return MeteredOracle(self.oracles.training, self.ledger, self.meter)

    def evaluating(self, oracle: Oracle) -> MeteredOracle:
        """An oracle that evaluates: its calls are not the method's spending."""
        return MeteredOracle(oracle, Ledger(), self.meter, "eval")

    @cached_property
    def judge(self) -> Client:
        """The recipe's judge behind an endpoint."""
        from harness.answer.client import Client

        assert self.recipe.judge != "local"
        return Client(self.recipe.judge, self.cache)

    def ask(self, calls: Sequence[Call]) -> list[Reply]:
        """Replies of the recipe's judge.

        Each question of a stage is charged once, also one that another row has asked before and that costs nothing
        now: what a row costs does not depend on the rows before it.
        """
        self.expect(len(calls))
        replies = self.judge.ask(calls, lambda done: self.emit("at", done))
        for call, reply in zip(calls, replies, strict=True):
            if reply.answered:
                self._judged[self.judge.key(call)] = reply.tokens_in + reply.tokens_out
        entries = self.ledger.entries.setdefault("judge", {})
        entries |= {"calls": len(self._judged), "tokens": sum(self._judged.values())}
        faults = [reply.error for reply in replies if reply.unanswered]
        self.unanswered += len(faults)
        self.fault = faults[-1] if faults else self.fault
        self.replaced += sum(reply.replaced for reply in replies)
        return replies

    def open_ledger(self, work: Path | None, before: Stage | None = None) -> Ledger:
        """The ledger of a stage, charged from now on by the meters of all loaded models.

        Args:
            work: work folder of the stage; the ledger goes on from what an interrupted attempt had spent on the rows
                that were kept.
            before: a finished stage that is built again; the ledger goes on from its spending.
        """
        self._ledger_file = LedgerFile(work / LEDGER) if work else None
        self._judged: dict[str, int] = {}
        kept: Any = self._ledger_file.read(self.cache) if self._ledger_file else {}
        if not kept and before is not None and self.store.done(before):
            kept = self.store.manifest(before).get("ledger", {})
        if self._ledger_file:
            self._ledger_file.go_on_from(kept)
        self.ledger = self.meter.ledger = Ledger.load(kept) if kept else Ledger()
        return self.ledger

    def _keep_before(self, key: str, version: int) -> None:
        """Write the ledger down just before rows become durable, of which the first one is named."""
        if self._ledger_file is not None:
            self.meter.flush()
            self._ledger_file.write_before(self.ledger.dump(), key, version)

    def keep_ledger(self) -> None:
        """Write the ledger down where no rows follow."""
        if self._ledger_file is not None:
            self.meter.flush()
            self._ledger_file.write(self.ledger.dump())

    def spent(self) -> dict[str, Any]:
        """Manifest entries of a finished stage: its ledger and environment."""
        self.ledger.note_memory()
        self._ledger_file = None  # the store removes the file when the stage has its manifest
        return {"ledger": self.ledger.dump(), "environment": environment()}

    def show(self, stage: str) -> None:
        """Progress: a stage begins whose length is not known yet."""
        self._shown = stage
        self.emit("stage", (stage, None))

    def expect(self, total: int) -> None:
        """Progress: so much comes next in the stage that is shown."""
        self.emit("stage", (self._shown, total))

    def tick(self, done: int) -> None:
        """Progress: so much more is done."""
        self.emit("advance", done)
