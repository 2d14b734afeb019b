"""The decision, as a pure function: (record, lane facts, list version, time) to verdicts.

Imports only the standard library and the pure packages `shutong_core.domain` and `wire`.
"""
