"""Seconds of devices, calls and tokens of a comparison, summed up over its runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import NamedTuple

from harness.benchmark import CallTokens, EvalCost
from harness.budget.device_time import Sampler, decoding_seconds, reading_rate
from harness.budget.flops import forward, head
from harness.budget.forecast import TEMPLATE_TOKENS, Corrections, Lengths, Spending, expected_answer, forecast, phases
from harness.budget.machines import Machine
from harness.budget.model_size import ModelSize
from harness.methods.base import Method
from harness.methods.endpoint import Remote
from harness.recipe.endpoint import Endpoint
from harness.run.fitting import MemorySettings
from harness.run.outline import TYPICAL_EVALUATION, Outline, Row, training_sampler
from harness.run.spending import evaluation_cost

CALL_SECONDS = 3.0
"""Of one call of an endpoint."""

LOADING, READ_RATE = 5.0, 1.5e9
"""Seconds that a run's process takes to start, and bytes a second at which it reads weights."""

LLM_JUDGE, REWARD_MODEL = "llm_judge", "reward_model"
"""Oracles behind an endpoint, and with a model of their own on the device."""


class RunSeconds(NamedTuple):
    """Seconds of a run as its ledger will have them, and how many of them go to the trials of its search, which can run
    side by side."""

    total: float
    searched: float
    trials: int


class Workload:
    """Sums up what an outline asks of a machine.

    Attributes:
        timed: whether seconds can be known.
        seconds: of devices, by phase.
        calls: of endpoints, by purpose.
        judged: calls of the judge by their tokens.
        written: tokens that are generated.
        endpoint_money: what rows behind endpoints cost by their own prices.
        unsaid: sentences on what cannot be known.
    """

    def __init__(self, outline: Outline, machine: Machine, settings: MemorySettings, size: ModelSize | None) -> None:
        self.outline, self.machine, self.settings, self.size = outline, machine, settings, size
        self.timed = size is not None and machine.has_speed
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self.judged: Counter[CallTokens] = Counter()
        self.written = self.endpoint_money = 0.0
        self._read_once: dict[str, list[float]] = {"texts": [0.0], "pairs": [0.0]}
        self.unsaid: list[str] = []
        self._label_calls = outline.recipe.oracle.name == LLM_JUDGE or bool(
            outline.recipe.prices and outline.recipe.prices.oracle_call
        )
        oracles = [o for o in (outline.recipe.oracle, outline.recipe.eval_oracle) if o and o.name == REWARD_MODEL]
        if oracles:
            self.unsaid.append(f"time and memory of the reward model{'s' if len(oracles) > 1 else ''}")
        self._rates = outline.corrections(outline.rows[0].name).rates if outline.rows and machine.here else {}
        self._shared = self._pairs() if outline.pairs_open else 0.0
        self._runs = [self._run(row) for row in outline.rows]

    def wall(self, workers: int) -> float | None:
        """Seconds from start to end: what all share, then runs side by side, the trials of a search too.

        Args:
            workers: runs side by side.
        """
        if not self.timed:
            return None
        groups = max(1, self.machine.count // self._processes) if self.machine.device.gpu else 1
        workers = min(workers, groups)  # those that share one share its speed
        spared = sum(sum(seconds) - max(seconds) for seconds in self._read_once.values())
        total = sum(run.total for run in self._runs) - spared
        longest = (r.total - r.searched * (1 - 1 / max(1, min(workers, r.trials))) for r in self._runs)
        return self._shared + max(max(longest, default=0.0) if workers > 1 else 0.0, total / workers)

    def _pairs(self) -> float:
        """Seconds to make the stored pairs."""
        data, lengths = self.outline.recipe.data, self.outline.pairs.lengths
        pairs, length = self.outline.pairs.number, lengths.prompt + lengths.response
        if not data.imported:
            self._labels(data.answers_to_sample)
            self.written += data.answers_to_sample * lengths.response
        if not self.timed:
            return 0.0
        if data.imported:
            rows = 2 * (pairs + data.heldout_prompts)
            spent = self._reading(rows * length, rows * lengths.response)
        else:
            prompts = data.answers_to_sample / data.samples
            spent = self._reading(prompts * lengths.prompt) + self._decoding(data.answers_to_sample, lengths)
        self.seconds["pairs"] += spent
        return spent

    def _labels(self, count: float) -> None:
        if self._label_calls:
            self.calls["oracle"] += round(count)

    def _run(self, row: Row) -> RunSeconds:
        """Adds a run."""
        before = sum(self.seconds.values())
        self._read_once["texts"].append(0.0)
        prompts, prompt = self.outline.recipe.data.eval_prompts, self.outline.pairs.lengths.prompt
        for benchmark in row.benchmarks:
            cost = evaluation_cost(benchmark, prompts, row.method, prompt)
            if cost is None:
                self._leave_out(benchmark.name)
                continue
            limit = getattr(benchmark.options, "max_new_tokens", TYPICAL_EVALUATION)
            self._evaluate(row.method, cost, limit)
            if benchmark.judged_by == "endpoint":
                self._judge(cost.judge_calls, benchmark.call_tokens)
            elif benchmark.judged_by == "local" and self.timed:
                self.seconds["judge"] += self._local_judge(cost, limit)
        trained = sum(self._train(row.name, method) for method in row.trainings)
        side_by_side = trained * (1 - 1 / self._processes) if self.machine.device.gpu else 0.0
        searched = trained - side_by_side + self._score_trials(row.trials)
        if self.timed and self.size is not None and (row.trainings or row.benchmarks):
            self.seconds["loading"] += LOADING + self.size.parameters * self.settings.number.weight / READ_RATE
        total = sum(self.seconds.values()) - before - side_by_side
        return RunSeconds(total, searched, row.trials)

    def _leave_out(self, name: str) -> None:
        sentence = f"the cost of {name}, whose data are not here"
        if sentence not in self.unsaid:
            self.unsaid.append(sentence)

    def _judge(self, calls: int, tokens: CallTokens) -> None:
        self.calls["judge"] += calls
        self.judged[tokens] += calls
        judge = self.outline.recipe.judge
        if self.timed:
            self.seconds["judge"] += calls * CALL_SECONDS / (judge.concurrency if isinstance(judge, Endpoint) else 1)

    def _train(self, name: str, method: Method) -> float:
        """Adds a training; returns its seconds, those of all its processes."""
        outline, size = self.outline, self.size
        recipe, spending, pairs = outline.recipe, method.spending(), outline.pairs
        per_step = recipe.train.pairs_per_step
        learned = outline.corrections(name) if self.machine.here else Corrections()
        prior = outline.prior(self.machine)
        rates = dict(prior(method)) if prior else {}
        corrections = learned._replace(rates=rates | dict(learned.rates))
        shape = size.shape if size else None
        expected = forecast(shape, spending, pairs.lengths, per_step, pairs.number, pairs.price, corrections)
        if not expected.covers(outline.budget):
            sentence = f"how many steps {outline.budget.limit:g} {outline.budget.axis} buy"
            self.unsaid += [sentence] if sentence not in self.unsaid else []
            return 0.0
        steps = expected.steps(outline.budget)
        self._labels(steps * expected.step["oracle_calls"])
        self.written += steps * expected.step["generated_tokens"]
        spent = steps * expected.step.get("seconds", 0.0)
        self.seconds["training"] += spent
        self._read_once["pairs"].append(spent * self._common_of_training(spending))
        return spent

    def _score_trials(self, trials: int) -> float:
        """Adds the answers by which the trials of a search are scored; returns their seconds."""
        data = self.outline.recipe.data
        answers, prompt = trials * data.tune_prompts, self.outline.pairs.lengths.prompt
        self.written += answers * data.max_new_tokens
        if not self.timed:
            return 0.0
        lengths = Lengths(prompt, data.max_new_tokens, prompt + data.max_new_tokens)
        spent = self._decoding(answers, lengths)
        spent += self._reading(answers * (2 * prompt + data.max_new_tokens), answers * data.max_new_tokens)
        self.seconds["search"] += spent
        return spent

    def _evaluate(self, method: Method, cost: EvalCost, limit: int) -> None:
        """Adds a benchmark.

        Args:
            method: whose policy answers.
            cost: of the benchmark.
            limit: most tokens of an answer.
        """
        self.written += cost.tokens
        if isinstance(method, Remote):
            prices = method.config
            self.endpoint_money += (cost.read * prices.price_in + cost.tokens * prices.price_out) / 1e6
            return
        if not self.timed:
            return
        answers, length = cost.tokens / limit, self._answer(limit)
        spent = self._reading(cost.read)
        self._read_once["texts"][-1] += 0.0 if method.instruction else spent * cost.common * self._lower
        if answers:
            prompt = self.outline.pairs.lengths.prompt if cost.task_prompts else cost.read / answers
            recipe = self.outline.recipe
            sampler = Sampler(recipe.engine.name, recipe.generation_batch_size, limit)
            spent += self._decoding(answers, Lengths(prompt, length, prompt + length), sampler)
        self.seconds["evaluation"] += spent

    @property
    def _processes(self) -> int:
        """In how many processes each training runs, with a GPU each."""
        return self.outline.recipe.train.processes

    @property
    def _lower(self) -> float:
        """Share of a forward pass in blocks that all policies share and that are computed once: on a CPU alone."""
        if self.size is None or self.machine.device.gpu:
            return 0.0
        return max(0, self.size.shape.bottom) / self.size.shape.layers

    def _common_of_training(self, spending: Spending) -> float:
        """Share of a training on stored pairs that the first training computes for all, in float32 on a CPU.

        Args:
            spending: of the method.
        """
        settings = self.settings
        if self.size is None or spending.sampled or settings.gradient_checkpointing or settings.number.compute < 4:
            return 0.0
        shape, lengths = self.size.shape, self.outline.pairs.lengths
        pair = lengths.pair(shape.hidden)
        forwards = pair.rows * spending.rows / 2 * forward(shape, 1, pair.length)
        return self._lower * forwards / phases(shape, spending, lengths, 1)["train"]

    def _answer(self, limit: int) -> float:
        """Tokens that an answer will have, by the answers of the pairs where they were sampled and are here.

        Args:
            limit: most tokens of an answer.
        """
        data = self.outline.recipe.data
        if self.outline.pairs_open or data.imported:
            return expected_answer(limit)
        return expected_answer(limit, self.outline.pairs.lengths.response / data.max_new_tokens)

    def _local_judge(self, cost: EvalCost, limit: int) -> float:
        """Seconds of the start policy's judgments: it reads the question, and two answers in words of its own.

        Args:
            cost: of the benchmark.
            limit: most tokens of an answer.
        """
        questions = max(1.0, cost.tokens / limit)
        return self._reading(cost.judge_calls * (cost.read / questions + 2 * self._answer(limit) + 2 * TEMPLATE_TOKENS))

    def _reading(self, tokens: float, scored: float = 0.0) -> float:
        """Seconds to read tokens without gradient.

        Args:
            tokens: that go through the model.
            scored: those whose log-probability counts.
        """
        assert self.size is not None
        lengths, shape = self.outline.pairs.lengths, self.size.shape
        row = max(1, round(lengths.prompt + lengths.response))
        operations = tokens / row * forward(shape, 1, row) + head(shape, round(scored))
        return operations / self._rates.get("reference", reading_rate(self.machine.device, self.settings.number))

    def _decoding(self, answers: float, lengths: Lengths, sampler: Sampler | None = None) -> float:
        """Seconds to decode answers.

        Args:
            answers: to sample.
            lengths: of prompts and answers.
            sampler: how; as pairs are sampled if None.
        """
        assert self.size is not None
        sampler = sampler or training_sampler(self.outline.recipe)
        return decoding_seconds(self.machine.device, self.size, answers, lengths, sampler, self.settings.number)
