"""Recipes: plain values, checked."""
