"""The former name of `hampkit.stats.metrics`, for one release."""

from hampkit.stats.metrics import *  # noqa: F403
