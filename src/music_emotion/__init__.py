"""music-emotion: predict how music feels (valence, energy, danceability) and its genre.

Importing the package loads no heavy library. `docs/design.md` describes its modules.
"""

import os

__version__ = "0.2.0"

# Set before torch loads OpenMP. Busy-waiting threads slow training twentyfold when other processes run.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
