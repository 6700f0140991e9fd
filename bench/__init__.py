"""Peers side by side in one run: `python -m bench`. See bench/README.md."""

from pathlib import Path

HERE = Path(__file__).parent
