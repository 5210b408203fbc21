"""Benchmarks: ratios of speed and memory, measured in one run, and the coverage of intervals."""
