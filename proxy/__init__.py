"""Tollway: an OpenAI-compatible gateway that an app reaches by changing only its base URL."""

__version__ = "0.1.0"
