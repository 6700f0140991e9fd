"""`python -m monoceros`."""

import sys

from monoceros.cli import main

if __name__ == "__main__":
    sys.exit(main())
