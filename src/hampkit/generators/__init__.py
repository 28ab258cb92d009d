"""Generators of synthetic inputs that resemble the members of a model, one per file. A new file is a new generator."""

from hampkit.generators.base import Generator

__all__ = ["Generator"]
