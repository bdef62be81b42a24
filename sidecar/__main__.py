"""`python -m sidecar`: the image's entrypoint."""

import sys

from sidecar.server import main

sys.exit(main())
