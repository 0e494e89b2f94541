"""lm-eval's task definitions: where they lie, what they hash to, and tasks built from them on given data."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.lmeval.data import Splits
from harness.errors import UserError, unknown

UNFIT = (OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


def lm_eval_version() -> str:
    """Version of the installed lm-eval.

    Raises:
        UserError: it is not installed.
    """
    try:
        return version("lm_eval")
    except PackageNotFoundError:
        raise UserError("These benchmarks need lm-eval: python -m pip install 'sail-bench[lm-eval]'") from None


def root() -> Path:
    """Folder of lm-eval's task definitions, found without importing it."""
    lm_eval_version()
    spec = find_spec("lm_eval")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "tasks"


@lru_cache(maxsize=64)
def locate(task: str) -> Path:
    """The YAML file of a single task. lm-eval's own index reads all 14,000 definitions, which takes 14 s.

    Raises:
        UserError: there is no such task, or the name is that of a group.
    """
    said = re.compile(rf"^[\"']?(task|group)[\"']?:[ \t]*[\"']?{re.escape(task)}[\"']?[ \t]*$", re.M)
    names = []
    for path in sorted(root().rglob("*.yaml"), key=lambda path: (path.stem != task, path)):
        text = path.read_text(encoding="utf-8", errors="replace")
        found = said.search(text)
        if found and found.group(1) == "task":
            return path
        if found:
            raise UserError(f"lm-eval's {task!r} is a group of tasks: name one of them as lm_eval:TASK")
        names += re.findall(r"^task:[ \t]*[\"']?([\w.-]+)[\"']?[ \t]*$", text, re.M)
    raise unknown("task of lm-eval", task, names)


def definition(paths: Sequence[Path]) -> str:
    """Hash (16 hex digits) of definitions: their YAML, what it includes, and the Python that it names."""
    found = hashlib.sha256()
    for path in _closure(paths):
        found.update(path.name.encode() + b"\n" + path.read_bytes())
    return found.hexdigest()[:16]


def tested(path: Path) -> str:
    """The split that a task asks, by its definition: the test split, else the validation split. "" if none is said, or
    if a function prepares the questions, which may leave some out."""
    texts = [each.read_text(encoding="utf-8", errors="replace") for each in _closure([path]) if each.suffix != ".py"]
    if any(re.search(r"^process_docs:", text, re.M) for text in texts):
        return ""
    for key in ("test_split", "validation_split"):  # a definition comes before what it includes
        said = re.compile(rf"^{key}:([^#\n]*)", re.M)
        found = next((match.group(1).strip(" \t\"'") for text in texts if (match := said.search(text))), "")
        if found not in ("", "null", "~"):
            return found
    return ""


def _closure(paths: Sequence[Path]) -> list[Path]:
    done: dict[Path, None] = {}
    todo = [path.resolve() for path in paths]
    while todo:
        path = todo.pop(0)
        if path in done or not path.is_file():
            continue
        done[path] = None
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix != ".py":
            included = re.findall(r"^[\"']?include[\"']?:[ \t]*[\"']?([^\s\"']+)", text, re.M)
            functions = re.findall(r"!function[ \t]+([\w.]+)\.\w+", text)
            named = [*included, *[f"{name.replace('.', '/')}.py" for name in functions]]
            todo += [(path.parent / name).resolve() for name in named]
    return list(done)


def build(paths: Mapping[str, Path], data: Mapping[str, Splits], fixed: Mapping[str, Any]) -> list[Any]:
    """Tasks by name, from lm-eval's own definitions.

    Args:
        paths: YAML file by task. data: rows by task and split, in place of the Hub's. fixed: further keys of the
            dataset's loader (``revision``), for tasks without data.

    Raises:
        UserError: the data cannot be read or do not fit, or a package that the task needs is missing.
    """
    from jinja2 import TemplateError
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False, include_path=sorted({path.parent for path in paths.values()}))
    found = []
    for name in paths:
        entry = manager.task_index[name]
        more: dict[str, Any] = {"dataset_kwargs": {**((entry.cfg or {}).get("dataset_kwargs") or {}), **fixed}}
        try:
            if name in data:
                more = {"custom_dataset": _loader(data[name]), "dataset_path": None}
            task = manager._factory.build(entry, overrides=more, registry=manager.task_index)
        except ImportError as error:
            raise UserError(f"lm-eval's task {name} needs a package that is not there ({error}): install it") from None
        except (*UNFIT, TemplateError) as error:
            reason = f"{type(error).__name__}: {str(error).strip().split(chr(10))[0].rstrip('.')}"
            if name in data:
                mend = "give each split and column that its data set has on the Hub"
                raise UserError(f"The local files do not fit lm-eval's task {name} ({reason}): {mend}") from None
            raise UserError(f"The data of lm-eval's task {name} cannot be read ({reason}): give --data-dir") from None
        for config in (task.config, task.fewshot_cfg):
            if config.process_docs is not None:
                config.process_docs = _once(config.process_docs)
        found.append(task)
    return found


def _once(process: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Documents that lm-eval prepares anew at each look (some shuffle their options), prepared once."""
    known: dict[str, Any] = {}

    def look(documents: Any) -> Any:
        name = documents._fingerprint
        if name not in known:
            known[name] = process(documents)
        return known[name]

    return look


def _loader(splits: Splits) -> Any:
    from datasets import Dataset, DatasetDict

    found = DatasetDict({split: Dataset.from_list(rows) for split, rows in splits.items()})
    return lambda **_: found
