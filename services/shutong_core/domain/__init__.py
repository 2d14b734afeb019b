"""Pure: regions, organisations, catalogue, grants, the responsibility list."""
