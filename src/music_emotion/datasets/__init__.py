"""Labelled clips: tables, extraction, the competition's layout, stores, excerpts and splits."""
