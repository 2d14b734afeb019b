"""Record in: departments publish over HTTP or from a file."""
