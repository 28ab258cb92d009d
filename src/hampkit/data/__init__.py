"""Data sets and splits. Every concrete `Source` in this package is found by its name."""

from hampkit.data.base import Place, Source, fingerprint

__all__ = ["Place", "Source", "fingerprint"]
