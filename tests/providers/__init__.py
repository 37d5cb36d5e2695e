"""Strict servers that speak the providers' wire, as their documents have it."""
