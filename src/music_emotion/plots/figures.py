"""What all pictures share: how rows over time are drawn, and how a figure is saved."""

from collections.abc import Sequence
from pathlib import Path

import librosa
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from music_emotion.audio.features import N_CHROMA, N_MELS, FeatureSettings
from music_emotion.files import atomic_path

_DOTS_PER_INCH = 130
_MOST_NAMED = 3
_MANY_COLUMNS = 500
FREQUENCIES_HZ = (128, 256, 512, 1024, 2048, 4096, 8192)
_NATURALS = {0: "C", 2: "D", 4: "E", 5: "F", 7: "G", 9: "A", 11: "B"}


def picture_path(folder: Path, kind: str, names: Sequence[str]) -> Path:
    """Name a picture by what it shows.

    Parameters
    ----------
    folder : Path
    kind : str
        Such as "curves".
    names : sequence of str
        What is in it; of many, the first three.

    Returns
    -------
    Path

    Examples
    --------
    >>> picture_path(Path("pictures"), "curves", ["slow", "fast"]).name
    'curves-slow-fast.png'
    """
    more = [f"and-{len(names) - _MOST_NAMED}-more"] if len(names) > _MOST_NAMED else []
    return folder / ("-".join([kind, *names[:_MOST_NAMED], *more]) + ".png")


def save_figure(path: Path, figure: Figure) -> Path:
    """Write a figure as PNG, atomically; returns its path."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DOTS_PER_INCH)
    return path


def draw_rows(
    panel: Axes, rows: np.ndarray, edges: np.ndarray, limits: tuple[float, float], colours: str
) -> ScalarMappable:
    """Draw an array as an image, its first row at the bottom.

    Parameters
    ----------
    panel : Axes
    rows : np.ndarray [shape=(n_rows, n_columns)]
    edges : np.ndarray [shape=(n_columns + 1,)]
        Where the columns begin and end on the horizontal axis.
    limits : tuple of float
        Values of the first and the last colour.
    colours : str
        Name of a colour map.

    Returns
    -------
    ScalarMappable
        For a colour bar.
    """
    low, high = limits
    if np.allclose(np.diff(edges), edges[1] - edges[0]):  # an image draws a thousand columns faster
        extent = (edges[0], edges[-1], 0, len(rows))
        image = panel.imshow(
            rows, cmap=colours, vmin=low, vmax=high, origin="lower", aspect="auto", extent=extent
        )
        if rows.shape[1] < _MANY_COLUMNS:
            image.set_interpolation("nearest")  # else columns narrower than a dot would be skipped
        return image
    heights = np.arange(len(rows) + 1)
    return panel.pcolormesh(edges, heights, rows, cmap=colours, vmin=low, vmax=high, rasterized=True)


def label_mel(panel: Axes, settings: FeatureSettings, frequencies_hz: Sequence[int] = FREQUENCIES_HZ) -> None:
    """Label the 128 mel rows with those frequencies that they reach."""
    centres = librosa.mel_frequencies(N_MELS + 2, fmax=settings.sample_rate_hz / 2)[1:-1]
    shown = [frequency for frequency in frequencies_hz if frequency < centres[-1]]
    panel.set_yticks(np.interp(shown, centres, np.arange(N_MELS) + 0.5), [str(hertz) for hertz in shown])
    panel.set_ylim(0, N_MELS)
    panel.set_ylabel("mel frequency (Hz)")


def label_chroma(panel: Axes, pitch_classes: str = "CDEFGAB") -> None:
    """Label those of the 12 chroma rows that some pitch classes without accidental have."""
    rows = [row + 0.5 for row, name in _NATURALS.items() if name in pitch_classes]
    panel.set_yticks(rows, list(pitch_classes))
    panel.set_ylim(0, N_CHROMA)
    panel.set_ylabel("pitch class")
