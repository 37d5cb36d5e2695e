"""What an operator changes while the gateway runs: the commands and the admin API share it."""
