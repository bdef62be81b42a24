"""`python -m webhook`: the image's entrypoint."""

import sys

from webhook.server import main

sys.exit(main())
