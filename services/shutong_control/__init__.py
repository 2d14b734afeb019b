"""The list and the schemas: publish, register, serve."""
