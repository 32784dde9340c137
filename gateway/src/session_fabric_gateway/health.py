"""`python -m session_fabric_gateway.health [URL]`: ask a gateway whether it can serve; leave with 0 or 1.

For health checks that run a command; whoever can ask over HTTP asks `/readyz` itself. Without a URL it is the gateway
in this container, found by the variables that it reads.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.error
import urllib.request
from typing import Final

_TIMEOUT_S: Final = 3.0


def main() -> int:
    url = sys.argv[1] if len(sys.argv) > 1 else _here()
    # The certificate is for the name that others use: this asks only whether somebody serves.
    context = ssl._create_unverified_context() if url.startswith("https:") else None
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S, context=context):
            return 0
    except (urllib.error.URLError, OSError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1


def _here() -> str:
    scheme = "https" if "SESSION_FABRIC_TLS_CERT" in os.environ else "http"
    return f"{scheme}://127.0.0.1:{os.environ.get('SESSION_FABRIC_PORT', '8080')}/readyz"


if __name__ == "__main__":
    sys.exit(main())
