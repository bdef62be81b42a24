"""`python -m ledger`: the image's entrypoint."""

import sys

from ledger.server import main

sys.exit(main())
