"""Metrics, scores with intervals, blends, submissions, comparisons and reports; nothing here trains."""
