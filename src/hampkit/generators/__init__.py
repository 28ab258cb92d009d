"""Ways to make inputs that look like a model's members, one per file. A new file here is a new generator."""

from hampkit.generators.base import Generator

__all__ = ["Generator"]
