"""What others wrote, as checked tables and arrays."""
