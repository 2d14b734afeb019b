"""The three kinds of fault, named by what the caller has to do.

A denial is never one of these: it is a value with a `Reason`.
"""

from __future__ import annotations


class ShutongError(Exception):
    """Base of all faults; never raised itself."""


class Rejected(ShutongError):  # noqa: N818 - named by what to do with it
    """The input is wrong and will stay wrong: correct it, do not retry."""


class Retryable(ShutongError):  # noqa: N818
    """A passing fault: the same call may succeed later."""


class Fatal(ShutongError):  # noqa: N818
    """The process or lane must stop: going on could lose, double or leak a record."""
