"""What scripts/bench.py measures, one benchmark a file."""
