"""``python -m machinery``: the command line."""

import sys

from machinery._cli import main

sys.exit(main())
