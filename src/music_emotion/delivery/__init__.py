"""Delivery: a blended run to a bundle, and the bundle to Kaggle and back."""
