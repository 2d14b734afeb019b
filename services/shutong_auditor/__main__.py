"""`python -m shutong_auditor`: the auditor service."""

from __future__ import annotations

import sys

from shutong_auditor.service import SERVICE, serve
from shutong_core.runtime.servicemain import service_main


def main() -> int:
    """Run the service; the exit code."""
    return service_main(SERVICE, serve)


if __name__ == "__main__":
    sys.exit(main())
