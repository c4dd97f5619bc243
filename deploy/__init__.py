"""Ways of deploying Probegate: the local federation that demonstrations and tests run."""
