"""Where the annotations of models are: files, folders of files, and the model that a file is of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.alpaca_eval.evaluation_set import SET_FILES
from benchmarks.alpaca_eval.layouts import AnnotationRow
from benchmarks.shared.judgment_files import TypedRow, read_typed_rows
from harness.errors import UserError

PLACEHOLDER = "example"
"""The ``generator`` of alpaca_eval's example outputs, which many files have kept."""

OFFICIAL_STEM = "annotations"
NO_ANNOTATIONS = {*SET_FILES, "alpaca_eval.json", "model_outputs.json", "reference_outputs.json"}


class AnnotationFile(NamedTuple):
    """A file with its rows.

    Attributes:
        path: of the file.
        rows: at least one.
        unnamed: the model of rows that name none.
        placeholder: the model of rows that name it ``example``.
    """

    path: Path
    rows: list[TypedRow[AnnotationRow]]
    unnamed: str
    placeholder: str

    def model_of(self, row: AnnotationRow) -> str:
        """The name of the model that a row judges."""
        if row.generator_2 == PLACEHOLDER:
            return self.placeholder
        return row.generator_2 or self.unnamed


def read_annotation_files(paths: Sequence[Path]) -> list[AnnotationFile]:
    """The annotation files that are named, or lie in a folder that is named.

    Args:
        paths: files and folders.

    Raises:
        UserError: a file is missing or broken, a row breaks the layout, or a folder holds no annotations.
    """
    files = [file for path in paths for file in (_files_in(path) if path.is_dir() else [path])]
    folders = [file.resolve().parent for file in files]
    result = []
    for file, folder in zip(files, folders, strict=True):
        rows = read_typed_rows(file, AnnotationRow)
        annotator = next((row.annotator for _, row in rows if row.annotator), None)
        # the official layout is results/MODEL/ANNOTATOR/annotations.json
        folder_name = (folder.parent if folder.name == annotator else folder).name or file.stem
        result.append(
            AnnotationFile(
                file,
                rows,
                unnamed=folder_name if file.stem == OFFICIAL_STEM else file.stem,
                placeholder=folder_name if folders.count(folder) == 1 else file.stem,
            )
        )
    return result


def _files_in(folder: Path) -> list[Path]:
    """Annotation files of a folder: those of the official name at any depth, else all JSON files in it."""
    files = [path for suffix in ("json", "jsonl") for path in folder.rglob(f"{OFFICIAL_STEM}*.{suffix}")]
    if not files:
        files = [path for suffix in ("json", "jsonl") for path in folder.glob(f"*.{suffix}")]
    files = sorted(path for path in files if path.name not in NO_ANNOTATIONS and path.is_file())
    if not files:
        raise UserError(f"The folder {folder} holds no annotations.json, and no other .json or .jsonl: name a file")
    return files
