"""One experiment in many settings."""
