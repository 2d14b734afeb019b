"""The sample story, played through public interfaces only."""
