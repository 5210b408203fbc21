"""Kaggle: package a bundle, push it, and run it in the kernel."""
