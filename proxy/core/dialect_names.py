"""The APIs that a provider may speak, by the names that the configuration has for them.

What each is like is said in `dialects.dialect`; the settings only have to know that there is such a one.
"""

AZURE_DEPLOYMENTS = "azure-deployments"

DIALECT_NAMES = (
    "openai",
    "anthropic",
    "gemini",
    "azure",
    AZURE_DEPLOYMENTS,
    "bedrock",
    "bedrock-anthropic",
    "openai-compatible",
)
