"""The ConvNet: any length for the excerpt CNN, the public CNN to the layer."""

import pytest
import torch
from torch import nn

from music_emotion.errors import InputError
from music_emotion.experiment import Experiment, ModelSection, build_experiment, read_differences
from music_emotion.models.build import ModelCard, Network, build_network
from music_emotion.models.conv import ConvNet, shortest_input
from tests_paths import EXPERIMENTS
