"""Data sets of clips: tables, extraction, the competition's layout, packed stores, excerpts and folds."""
