"""The language that every other room speaks: values, errors, the clock, secrets."""
