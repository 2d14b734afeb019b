"""The shutong command."""
