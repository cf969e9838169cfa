"""`python -m jetscale.cli`."""

import sys

from jetscale.cli import main

sys.exit(main())
