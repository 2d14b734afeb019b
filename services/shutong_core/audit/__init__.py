"""Pure: the audit format that proves what was placed."""
