"""The bundle for Kaggle, what its kernel runs, and the push."""
