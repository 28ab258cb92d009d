"""Launchers, which run jobs in other processes."""
