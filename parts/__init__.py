"""The real programs that the demo and the tests run: made once, kept in a cache.

`parts.path("envoy")` gives the program's path and makes it first where it is missing or broken;
`python -m parts [NAME...]` makes them ahead of time. The cache is `TOKEN_METER_CACHE`, by default
`${XDG_CACHE_HOME:-~/.cache}/token-meter`. Imports nothing of the product.
"""

from parts.cache import cache_folder, ensure
from parts.catalog import PARTS, path
from parts.kinds import require
from parts.part import Part, PartError

__all__ = ["PARTS", "Part", "PartError", "cache_folder", "ensure", "path", "require"]
