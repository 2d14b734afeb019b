"""Pure: decide one record by one list version."""
