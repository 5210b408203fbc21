"""music-emotion: predict how music feels (valence, energy, danceability) and its genre.

Importing the package loads no heavy library. `docs/design.md` describes how the rooms fit together.
"""

import os

__version__ = "0.2.0"

# Before torch loads OpenMP: threads that spin while they wait slow a training beside other work twentyfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
