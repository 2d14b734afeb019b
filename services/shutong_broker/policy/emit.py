"""Lines of generated Python with the constants they use.

Nothing that came from a user enters the text: names, symbols, literals, bounds and keys are
constants of the function's namespace under generated names, so no list or schema can write code.
Texts that come out alike are compiled once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from types import CodeType
from typing import Any

#: Texts kept compiled: a list version has few distinct schemas, and most stay from one to the next.
_TEXTS_MAX = 256


class Emission:
    """Source in the making; `constants` are what it refers to by generated names."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, Any] = dict(given)
        self._names: dict[tuple[type, Any], str] = {}
        self._indent = ""
        self._serial = 0

    def __call__(self, *lines: str) -> None:
        """Add lines at the present depth."""
        self.lines += [self._indent + line for line in lines]

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Add `head` (ends in a colon); what is added inside stands below it."""
        self(head)
        before, self._indent = self._indent, self._indent + "    "
        yield
        self._indent = before

    def constant(self, value: Any) -> str:
        """The name of a constant; equal hashable ones of one type share it."""
        try:
            known = self._names.get((type(value), value))
        except TypeError:
            known = None
        if known is not None:
            return known
        name = f"K{len(self.constants)}"
        self.constants[name] = value
        with suppress(TypeError):
            self._names[type(value), value] = name
        return name

    def fresh(self, letter: str) -> str:
        """A name that no other variable has."""
        self._serial += 1
        return f"{letter}_{self._serial}"

    @property
    def text(self) -> str:
        """The source so far."""
        return "\n".join(self.lines) + "\n"

    def build(self) -> dict[str, Any]:
        """The namespace with the functions that the source defines."""
        namespace = {"__builtins__": _BUILTINS, **self.constants}
        exec(_compiled(self.text), namespace)  # noqa: S102 - our own text, see above
        return namespace


#: All of Python's own that generated code may use.
_BUILTINS = {"Exception": Exception, "abs": abs, "len": len, "range": range, "set": set}


@lru_cache(maxsize=_TEXTS_MAX)
def _compiled(text: str) -> CodeType:
    return compile(text, "<compiled policy>", "exec")
