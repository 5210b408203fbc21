"""Pictures of what networks read: mel and chroma of a clip, full-rate beside beat-synchronous."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from music_emotion.audio.features import SILENCE_DB, row_slice
from music_emotion.plots.clip_arrays import ClipArrays
from music_emotion.plots.figures import draw_rows, label_chroma, label_mel


def features_figure(clip: ClipArrays) -> Figure:
    """Draw mel above chroma, the full-rate array on the left, the beat-synchronous one on the right.

    Parameters
    ----------
    clip : ClipArrays

    Returns
    -------
    Figure
        Axes in the order mel full, mel beat-synchronous, chroma full, chroma beat-synchronous, and
        the two colour bars. Where the beats are known, both columns are over time in seconds.
    """
    figure = Figure(figsize=(13, 7), layout="constrained")
    figure.suptitle(clip.title, fontsize=15, parse_math=False)  # a name may hold dollars
    panels = figure.subplots(2, 2, height_ratios=(2.4, 1), sharex="col", sharey="row")
    mel_panels, chroma_panels = panels
    columns = [(clip.full, _frame_edges(clip)), (clip.beat_synchronous, _span_edges(clip))]
    for (array, edges), mel_panel, chroma_panel in zip(columns, mel_panels, chroma_panels, strict=True):
        mel, chroma = array[row_slice("mel")], array[row_slice("chroma")]
        mel_image = draw_rows(mel_panel, mel, edges, (SILENCE_DB, 0), "magma")
        chroma_image = draw_rows(chroma_panel, chroma, edges, (0, 1), "viridis")
    figure.colorbar(mel_image, ax=mel_panels, label="dB below the loudest", pad=0.01)
    figure.colorbar(chroma_image, ax=chroma_panels, label="chroma (0 to 1)", pad=0.01)
    label_mel(mel_panels[0], clip.settings)
    label_chroma(chroma_panels[0])
    _name_columns(clip, mel_panels, chroma_panels)
    return figure


def _frame_edges(clip: ClipArrays) -> np.ndarray:
    return np.arange(clip.full.shape[1] + 1) * clip.frame_seconds


def _span_edges(clip: ClipArrays) -> np.ndarray:
    """Seconds where they are known, else a count of the spans."""
    if clip.span_edges_seconds is not None:
        return clip.span_edges_seconds
    return np.arange(clip.beat_synchronous.shape[1] + 1)


def _name_columns(clip: ClipArrays, top: list[Axes], bottom: list[Axes]) -> None:
    n_frames, n_spans = clip.full.shape[1], clip.beat_synchronous.shape[1]
    milliseconds = 1000 * clip.frame_seconds
    top[0].set_title(f"full rate: {n_frames} frames of {milliseconds:.1f} ms", fontsize=13)
    top[1].set_title(f"beat-synchronous: medians of {n_spans} spans between beats", fontsize=13)
    bottom[0].set_xlabel("time (s)")
    timed = clip.span_edges_seconds is not None
    bottom[1].set_xlabel("time (s)" if timed else "span between beats")
