"""Defenses, one per file: how a classifier is trained and how its answers are released. A new file is a new defense."""

from hampkit.defenses.base import Defense, Models, Plain, Release

__all__ = ["Defense", "Models", "Plain", "Release"]
