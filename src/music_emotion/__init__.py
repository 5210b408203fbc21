"""music-emotion: predict how music feels (valence, energy, danceability) and its genre.

Importing the package loads no heavy library. `docs/design.md` describes how the rooms fit together.
"""

__version__ = "0.2.0"
