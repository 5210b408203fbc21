"""LSTM over the frames of a clip."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from music_emotion.config import ModelSection


class Lstm(nn.Module):
    """Packed LSTM; each direction's last valid step is read out.

    Parameters
    ----------
    model : ModelSection
        Width, layers, directions, dropout between layers.
    n_rows : int
        Values per frame.
    """

    def __init__(self, model: ModelSection, n_rows: int):
        super().__init__()
        self.lstm = nn.LSTM(
            n_rows,
            model.lstm_width,
            2,
            batch_first=True,
            dropout=model.dropout,
            bidirectional=model.bidirectional,
        )
        self.n_directions = 2 if model.bidirectional else 1
        self.n_features = self.n_directions * model.lstm_width

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Read frames [shape=(n, n_rows, n_frames)] into features [shape=(n, n_features)]."""
        steps = frames.transpose(1, 2)  # [n, frames, rows]
        packed = pack_padded_sequence(steps, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)
        return torch.cat(tuple(hidden[-self.n_directions :]), dim=1)
