"""Have we said this before."""
