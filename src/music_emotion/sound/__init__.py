"""Arrays of sound to arrays of features: pure functions, no tables, no folders."""
