"""Python's own reader of TOML, or tomli, which it was made from, for Python 3.10."""

import sys

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

__all__ = ["tomllib"]
