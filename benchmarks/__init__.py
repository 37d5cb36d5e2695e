"""What the gateway costs: scripts that stand alone, for this gateway or any other."""
