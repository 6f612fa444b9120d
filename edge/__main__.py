"""`python -m edge` is `edge-depth`."""

import sys

from edge.cli import main

sys.exit(main())
