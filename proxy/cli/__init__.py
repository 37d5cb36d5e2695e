"""The command line: reads what was typed, and asks the rooms below."""
