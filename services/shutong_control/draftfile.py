"""Reads a list file from disk together with the schema files it names."""

from __future__ import annotations

from pathlib import Path

from shutong_control.publish import Draft
from shutong_core.domain.errors import Rejected
from shutong_core.domain.findings import PROBLEMS_MAX, Finding
from shutong_core.domain.listfile import read_list_file
from shutong_core.domain.yamltree import TEXT_BYTES_MAX as LIST_BYTES_MAX
from shutong_core.wire.findings import TEXT_BYTES_MAX as SCHEMA_BYTES_MAX


def read_draft(path: Path) -> Draft:
    """The list in the file `path`; schema files are looked for beside it.

    Raises ListRefused with the place of every problem, or Rejected if the file cannot be read.
    """
    text = _decoded(read_bounded(path, LIST_BYTES_MAX), path)
    draft = read_list_file(text, str(path))
    texts: dict[str, bytes] = {}
    findings: list[Finding] = []
    for dataset, files in draft.schema_files.items():
        for index, name in enumerate(files):
            try:
                texts[name] = _beside(path, name)
            except Rejected as error:
                findings.append(_unreadable(dataset, index, name, str(error)))
    draft.refuse_if(findings[:PROBLEMS_MAX])
    return Draft(draft, texts)


def read_bounded(path: Path, bytes_max: int) -> bytes:
    """A regular file of at most `bytes_max` bytes. Raises Rejected that says what is wrong."""
    try:
        if not path.is_file():
            why = "不是普通文件 is not a regular file" if path.exists() else "不存在 does not exist"
            raise Rejected(f"{path}: {why}")
        with path.open("rb") as stream:
            data = stream.read(bytes_max + 1)
    except OSError as error:
        raise Rejected(f"{path}: 无法读取 cannot be read ({error.strerror})") from None
    if len(data) > bytes_max:
        raise Rejected(f"{path}: 超过 {bytes_max} 字节 is larger than {bytes_max} bytes")
    return data


def _beside(path: Path, name: str) -> bytes:
    base = path.parent.resolve()
    # A link must not lead the publisher to files that the author of the list cannot read.
    if not (base / name).resolve().is_relative_to(base):
        raise Rejected(f"{name}: 在清单目录之外 lies outside the directory of the list")
    return read_bounded(base / name, SCHEMA_BYTES_MAX)


def _decoded(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise Rejected(
            f"{path}:{line}:{column}: 不是 UTF-8 文本，请另存为 UTF-8。"
            " The file is not UTF-8 text: save it as UTF-8."
        ) from None


def _unreadable(dataset: str, index: int, name: str, why: str) -> Finding:
    return Finding(
        "schema-file",
        f"dataset/{dataset}",
        ("schema_files", index),
        f"模式文件 {name} 无法使用",
        f"the schema file cannot be used ({why})",
        "把模式文件放在清单所在目录之下，路径相对于清单文件",
        "put the schema file below the directory of the list, its path relative to the list file",
    )
