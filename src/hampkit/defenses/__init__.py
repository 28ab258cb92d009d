"""Ways to train a classifier and to release its answers, one per file. A new file here is a new defense."""

from hampkit.defenses.base import Defense, Models, Plain, Release

__all__ = ["Defense", "Models", "Plain", "Release"]
