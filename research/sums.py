"""Write sums of parts of two clips of the bench set, from which a network can learn without labels.

`python sums.py AUDIO` reads AUDIO/emotion and AUDIO/genre. It writes 1,200 files data/sums/<id>.flac: 15 s of
two clips at the same level, the second lowered by up to 12 dB. data/sums/clips.csv lists them after the
genre set's test clips, as a table for `music-emotion extract` and `embed audio`.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

AUDIO, OUT = Path(sys.argv[1]), Path("data/sums").absolute()
COUNT, FIRST_ID, RATE_HZ = 1200, 100000, 22050
LENGTH = 15 * RATE_HZ
draw = np.random.default_rng(0)


def part(path: Path) -> np.ndarray | None:
    """A random part of a clip with a root mean square of 1; None of a short or silent one."""
    waveform = soundfile.read(path, dtype="float32")[0]
    if len(waveform) <= LENGTH:
        return None
    first = draw.integers(len(waveform) - LENGTH)
    waveform = waveform[first : first + LENGTH]
    level = np.sqrt(np.mean(waveform**2))
    return None if level < 1e-4 else waveform / level


OUT.mkdir(parents=True, exist_ok=True)
files, written = sorted(AUDIO.glob("*/*.ogg")), []
while len(written) < COUNT:
    one, other = (part(files[number]) for number in draw.choice(len(files), 2, replace=False))
    if one is None or other is None:
        continue
    both = one + 10 ** (draw.uniform(-12, 0) / 20) * other
    written.append(OUT / f"{FIRST_ID + len(written)}.flac")
    soundfile.write(written[-1], 0.9 / np.abs(both).max() * both, RATE_HZ)
genres = [AUDIO / "genre" / f"{clip}.ogg" for clip in pd.read_csv(AUDIO.parent / "genre_test.csv")["Id"]]
table = pd.DataFrame({"path": [*genres, *written]})
table.insert(0, "id", [int(path.stem) for path in table["path"]])
table.to_csv(OUT / "clips.csv", index=False)
