"""Run folders: their steps, files and locks."""
