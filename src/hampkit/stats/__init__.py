"""Statistics: arrays in, numbers out. Nothing here imports another part of hampkit."""
