"""What is happening, now."""
