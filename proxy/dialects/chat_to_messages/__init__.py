"""Chat Completions, said as Anthropic's Messages."""
