"""The process: Ctrl-C ends it without a word also before there is anything to end in order."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line as a process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from session_fabric_cli.main import main as whole

    signal.signal(signal.SIGINT, signal.default_int_handler)
    whole()


if __name__ == "__main__":
    main()
