"""The lanes: decide every record by the list, place it with its audit in one commit."""
