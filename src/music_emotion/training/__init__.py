"""One training loop and the objectives it serves."""
