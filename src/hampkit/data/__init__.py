"""Data sets and splits. Every `Source` in this package is registered by its name."""

from hampkit.data.base import Place, Source, fingerprint

__all__ = ["Place", "Source", "fingerprint"]
