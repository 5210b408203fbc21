"""Predictions to scores, blends and submissions."""
