"""The straight line of one request. Start reading at line.py."""
