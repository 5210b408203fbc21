"""Features to outputs: one value per target, or one logit per class."""

import torch
from torch import nn

from music_emotion.config import ModelSection, Task
from music_emotion.models.mlp import dense_layers

_WIDTH = 128  # hidden units of the public baseline's heads


class PerTarget(nn.Module):
    """The public baseline's heads: for every target two layers of its own.

    Parameters
    ----------
    n_features, width, n_outputs : int
        Sizes of input, hidden layer and output.
    n_heads : int
        Heads side by side; each gives ``n_outputs / n_heads`` outputs.
    dropout : float
        Before each of the two layers.
    """

    def __init__(self, n_features: int, width: int, n_outputs: int, n_heads: int, dropout: float):
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Dropout(dropout),
                nn.Linear(n_features, width),
                nn.PReLU(),
                nn.BatchNorm1d(width),
                nn.Dropout(dropout),
                nn.Linear(width, n_outputs // n_heads),
            )
            for _ in range(n_heads)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features [shape=(n, n_features)] to outputs [shape=(n, n_outputs)]."""
        return torch.cat([head(features) for head in self.heads], dim=1)


def build_head(model: ModelSection, task: Task, n_features: int, n_outputs: int) -> nn.Module:
    """The head an experiment asks for: for genre, one head gives all classes."""
    match model.head:
        case "linear":
            dropout = model.dropout if model.kind != "lstm" else 0.0  # the LSTM's is between layers
            return nn.Sequential(nn.Dropout(dropout), nn.Linear(n_features, n_outputs))
        case "mlp":
            n_heads = n_outputs if task == "emotion" else 1
            return PerTarget(n_features, _WIDTH, n_outputs, n_heads, model.dropout)
        case "dense":
            hidden = dense_layers(n_features, model.head_widths, model.activation)
            drop = nn.Dropout(model.dropout)
            last = nn.Linear([n_features, *model.head_widths][-1], n_outputs)
            if model.dropout_place == "before":
                return nn.Sequential(drop, *hidden, last)
            return nn.Sequential(*hidden, drop, last)
