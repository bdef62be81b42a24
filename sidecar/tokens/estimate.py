"""The last way to count: by bytes. Pure, and total over any string."""

import math
from collections.abc import Iterable

# UTF-8 bytes a token. English text has about 4.5 of them, code 3.5, Chinese 3 to 4: of those, a little too many
# tokens is the safer side, as what is hidden from a server's count must not be the cheaper way to ask.
BYTES_A_TOKEN = 3.5


def estimate(texts: Iterable[str]) -> int:
    """Tokens of whole texts, each counted for itself; 0 for an empty one, and never more than its bytes."""
    return sum(math.ceil(len(text.encode("utf-8", "replace")) / BYTES_A_TOKEN) for text in texts)
