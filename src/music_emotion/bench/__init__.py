"""Benchmarks: speed and memory as ratios measured in one run, and the coverage of intervals."""
