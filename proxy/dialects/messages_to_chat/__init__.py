"""Anthropic's Messages, said as Chat Completions."""
