"""Metrics, bootstrap intervals, blends, submissions, comparisons and reports. Nothing here trains a model."""
