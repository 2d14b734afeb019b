"""`python -m shutong_producer`: the producer service."""

from __future__ import annotations

import sys

from shutong_core.runtime.servicemain import service_main
from shutong_producer.service import SERVICE, serve


def main() -> int:
    """Run the service; the exit code."""
    return service_main(SERVICE, serve)


if __name__ == "__main__":
    sys.exit(main())
