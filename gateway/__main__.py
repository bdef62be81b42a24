"""`python -m gateway`: the image's other entrypoint."""

import sys

from gateway.server import main

sys.exit(main())
