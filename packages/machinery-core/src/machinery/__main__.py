"""``python -m machinery``: the command line."""

import sys

from machinery._cli import run

sys.exit(run())
