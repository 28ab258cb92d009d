"""The former place of `hampkit.text.duration`, from which `hampkit.workflows.compare` imports it."""

from hampkit.text import duration

__all__ = ["duration"]
