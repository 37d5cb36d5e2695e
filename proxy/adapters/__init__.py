"""Doors to the world: each third-party library that does I/O is imported in one place here."""
