"""Training: the loop, losses, folds, leak checks and pseudo-labels."""
