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

from benchmarks.lmeval.split_files import Splits
from harness.errors import MissingPackageError, UserError, install, unknown

DATA_FAULTS = (OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What lm-eval and datasets raise where data cannot be read or do not fit a task."""


def lm_eval_version() -> str:
    """Version of the installed lm-eval.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return version("lm_eval")
    except PackageNotFoundError:
        raise MissingPackageError(f"These benchmarks need lm-eval: {install('lm-eval')}") from None


def definitions_folder() -> Path:
    """Folder of lm-eval's task definitions, found without importing it."""
    lm_eval_version()
    spec = find_spec("lm_eval")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "tasks"


@lru_cache(maxsize=64)
def definition_file(task: str) -> Path:
    """The YAML file of a single task. lm-eval's own index reads all 14,000 definitions, which takes 14 s.

    Raises:
        UserError: there is no such task, or the name is that of a group.
    """
    declaration = re.compile(rf"^[\"']?(task|group)[\"']?:[ \t]*[\"']?{re.escape(task)}[\"']?[ \t]*$", re.M)
    names = []
    for path in sorted(definitions_folder().rglob("*.yaml"), key=lambda path: (path.stem != task, path)):
        text = path.read_text(encoding="utf-8", errors="replace")
        match = declaration.search(text)
        if match and match.group(1) == "task":
            return path
        if match:
            raise UserError(f"lm-eval's {task!r} is a group of tasks: name one of them as lm_eval:TASK")
        names += re.findall(r"^task:[ \t]*[\"']?([\w.-]+)[\"']?[ \t]*$", text, re.M)
    raise unknown("task of lm-eval", task, names)


def definitions_hash(paths: Sequence[Path]) -> str:
    """Hash (16 hex digits) of definitions: their YAML, what it includes, and the Python that it names."""
    sha256 = hashlib.sha256()
    for path in _with_includes(paths):
        sha256.update(path.name.encode() + b"\n" + path.read_bytes())
    return sha256.hexdigest()[:16]


def tested_split(path: Path) -> str:
    """The split that a task asks, by its definition: the test split, else the validation split. "" if none is named, or
    if a function prepares the questions, which may leave some out."""
    texts = _definition_texts(path)
    if any(re.search(r"^process_docs:", text, re.M) for text in texts):
        return ""
    return _named_split(texts, "test_split", "validation_split")


def needed_splits(path: Path) -> list[str]:
    """The splits that a task reads when it is built, by its definition: the one that it asks, and the one that its
    examples are from, even if none is shown."""
    texts = _definition_texts(path)
    examples = ("fewshot_split", "training_split", "validation_split", "test_split")
    own = any(re.search(r"^fewshot_config:", text, re.M) for text in texts)  # may name a split or bring examples
    named = [_named_split(texts, "test_split", "validation_split"), "" if own else _named_split(texts, *examples)]
    return [split for split in dict.fromkeys(named) if split]


def _definition_texts(path: Path) -> list[str]:
    """A definition, then what it includes."""
    files = [file for file in _with_includes([path]) if file.suffix != ".py"]
    return [file.read_text(encoding="utf-8", errors="replace") for file in files]


def _named_split(texts: Sequence[str], *keys: str) -> str:
    """The split under the first of these keys that names one; "" if none does."""
    for key in keys:
        line = re.compile(rf"^{key}:([^#\n]*)", re.M)
        split = next((match.group(1).strip(" \t\"'") for text in texts if (match := line.search(text))), "")
        if split not in ("", "null", "~"):
            return split
    return ""


def _with_includes(paths: Sequence[Path]) -> list[Path]:
    """Definitions, then what they include and the Python files that they name, each once."""
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


def build_tasks(paths: Mapping[str, Path], data: Mapping[str, Splits], loader_options: Mapping[str, Any]) -> list[Any]:
    """Tasks by name, from lm-eval's own definitions.

    Args:
        paths: YAML file by task.
        data: rows by task and split, in place of the Hub's.
        loader_options: further keys of the dataset's loader (``revision``), for tasks without data.

    Raises:
        UserError: the data cannot be read or do not fit, or a package that the task needs is missing.
    """
    from jinja2 import TemplateError
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False, include_path=sorted({path.parent for path in paths.values()}))
    tasks = []
    for name in paths:
        entry = manager.task_index[name]
        dataset_options = {**((entry.cfg or {}).get("dataset_kwargs") or {}), **loader_options}
        overrides: dict[str, Any] = {"dataset_kwargs": dataset_options}
        try:
            if name in data:
                overrides = {"custom_dataset": dataset_loader(data[name]), "dataset_path": None}
            task = manager._factory.build(entry, overrides=overrides, registry=manager.task_index)
        except ImportError as error:
            raise UserError(f"lm-eval's task {name} needs a package that is not there ({error}): install it") from None
        except (*DATA_FAULTS, TemplateError) as error:
            raise _data_error(name, error, local=name in data) from None
        for config in (task.config, task.fewshot_cfg):
            if config.process_docs is not None:
                config.process_docs = _once(config.process_docs)
        tasks.append(task)
    return tasks


def _data_error(task: str, error: Exception, local: bool) -> UserError:
    reason = f"{type(error).__name__}: {str(error).strip().split(chr(10))[0].rstrip('.')}"
    if local:
        fix = "give each split and column that its data set has on the Hub"
        return UserError(f"The local files do not fit lm-eval's task {task} ({reason}): {fix}")
    return UserError(f"The data of lm-eval's task {task} cannot be read ({reason}): give --data-dir")


def _once(process: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Documents that lm-eval prepares anew at each look (some shuffle their options), prepared once."""
    prepared: dict[str, Any] = {}

    def prepare(documents: Any) -> Any:
        name = documents._fingerprint
        if name not in prepared:
            prepared[name] = process(documents)
        return prepared[name]

    return prepare


def dataset_loader(splits: Splits) -> Callable[..., Any]:
    """What lm-eval calls for the data of a task: it gives the rows of ``splits`` as a ``DatasetDict``."""
    from datasets import Dataset, DatasetDict

    dataset = DatasetDict({split: Dataset.from_list(rows) for split, rows in splits.items()})
    return lambda **_: dataset
