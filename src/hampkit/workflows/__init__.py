"""What a command does, one verb per file."""
