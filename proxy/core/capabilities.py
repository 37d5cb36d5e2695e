"""What a model can do besides answering text with text.

One list of names, for the files of prices and for what an operator writes beside a deployment.
"""

CAPABILITIES = (
    "audio_input",
    "audio_output",
    "computer_use",
    "json_schema",
    "parallel_tools",
    "pdf",
    "prompt_caching",
    "reasoning",
    "tools",
    "video",
    "vision",
    "web_search",
)
