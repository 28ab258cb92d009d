"""Targets: the models that are attacked."""
