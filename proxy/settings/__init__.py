"""Configuration: a TOML text in, frozen settings or every problem at once out."""
