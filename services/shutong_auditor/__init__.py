"""Verify the audit from outside."""
