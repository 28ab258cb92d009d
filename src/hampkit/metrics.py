"""`hampkit.stats.metrics` under the name of before, for one release."""

from hampkit.stats.metrics import *  # noqa: F403
