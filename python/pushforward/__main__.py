"""The command ``pushforward``, and ``python -m pushforward``."""

import sys

from pushforward.cli import main

if __name__ == "__main__":
    sys.exit(main())
