"""Pure: what a record looks like in bytes."""
