"""May it run, and what may it cost: limits and caps, decided and reserved in one atomic step."""
