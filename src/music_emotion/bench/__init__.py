"""Benchmarks: ratios of speed and memory in one run, the coverage of intervals, and an outside rival."""
