"""A provider that needs no network: it makes answers up, in the providers' own wire format."""
