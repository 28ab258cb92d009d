"""Scores and membership become numbers, flags and verdicts."""
