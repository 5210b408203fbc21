"""Predictions for songs: as a whole and over time."""
