"""The provider keys of tenants: sealed at rest, opened for one call."""
