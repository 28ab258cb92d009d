"""`hampkit.targets.blackbox` under the name of before, for one release."""

from hampkit.targets.blackbox import BlackBox

__all__ = ["BlackBox"]
