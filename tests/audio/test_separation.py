"""The running median against scipy's, the percussive part against librosa's, to the bit."""

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import median_filter

from music_emotion.audio.constant_q import short_time_spectrum
from music_emotion.audio.separation import percussive_part, running_median

few_values = st.sampled_from([0.0, 1.0, 1.5, 2.0])  # ties, which a sorted window must survive
any_value = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=150, deadline=None)
@given(
    values=arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 70), st.integers(1, 70)),
        elements=few_values | any_value,
    ),
    half=st.integers(0, 20),
)
def test_the_running_median_is_scipys(values, half):
    size = 2 * half + 1
    # mirrored here, since scipy errs where a window is many times as long as the values
    mirrored = np.pad(values, ((half, half), (0, 0)), mode="symmetric")
    expected = median_filter(mirrored, size=(size, 1))[half : half + len(values)]
    np.testing.assert_array_equal(running_median(values, size), expected)


@pytest.mark.parametrize("shape", [(1292, 1025), (300, 64), (300, 65), (31, 63), (3, 130)])
@pytest.mark.parametrize("size", [31, 5])
def test_so_it_is_at_the_sizes_of_spectra(shape, size):
    values = np.random.default_rng(0).gamma(0.3, size=shape).astype(np.float32)
    values[values < 0.01] = 0
    expected = median_filter(values, size=(size, 1), mode="reflect")
    np.testing.assert_array_equal(running_median(values, size), expected)


def test_the_input_of_the_running_median_stays_as_it_was():
    values = np.random.default_rng(0).random((40, 70)).astype(np.float32)
    before = values.copy()
    running_median(values, 7)
    np.testing.assert_array_equal(values, before)


@pytest.mark.filterwarnings("ignore:n_fft=:UserWarning")
@pytest.mark.parametrize("n_samples", [2048, 5000, 66150, 66151])
def test_the_percussive_part_is_librosas_to_the_bit(n_samples):
    rng = np.random.default_rng(n_samples)
    waveform = (0.1 * rng.standard_normal(n_samples)).astype(np.float32)
    waveform += 0.3 * np.sin(np.arange(n_samples) / 20).astype(np.float32)
    waveform[n_samples // 2 : n_samples // 2 + 5000] = 0  # digital silence: nothing over nothing
    spectrum = short_time_spectrum(waveform)
    ours = percussive_part(spectrum, np.abs(spectrum), n_samples)
    np.testing.assert_array_equal(ours, librosa.effects.percussive(waveform))
