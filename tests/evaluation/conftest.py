import numpy as np
import pandas as pd
import pytest

TARGETS = ["valence", "energy"]


@pytest.fixture
def truth() -> pd.DataFrame:
    """Target values of 60 clips."""
    values = np.random.default_rng(0).random((60, 2))
    return pd.DataFrame(values, pd.Index(np.arange(100, 160), name="Id"), TARGETS)


@pytest.fixture
def noisy(truth):
    """Predictions of the truth with noise: `noisy(deviation, seed)`."""

    def make(deviation: float, seed: int = 1) -> pd.DataFrame:
        noise = np.random.default_rng(seed).normal(0, deviation, truth.shape)
        return truth + noise

    return make


@pytest.fixture
def folds(truth) -> pd.Series:
    return pd.Series(np.arange(len(truth)) % 5, truth.index)
