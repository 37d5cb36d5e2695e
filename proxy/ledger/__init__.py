"""What happened, for ever: a row for every run."""
