"""Statistics: arrays in, numbers out. This package imports no other part of hampkit."""
