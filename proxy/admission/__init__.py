"""May it run, what may it cost."""
