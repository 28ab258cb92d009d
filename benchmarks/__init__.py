"""Measurements that stand behind the figures in the documentation. Each is a command: ``python -m benchmarks.NAME``."""
