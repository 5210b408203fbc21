"""One module per public data set, each with its `SET`."""
