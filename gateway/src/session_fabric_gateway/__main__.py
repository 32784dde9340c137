"""`python -m session_fabric_gateway` is `session-fabric-gateway`."""

import sys

from session_fabric_gateway.main import main

sys.exit(main())
