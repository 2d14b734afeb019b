"""Cosign checkpoints of other people's buses."""
