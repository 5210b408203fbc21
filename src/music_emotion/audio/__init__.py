"""Waveform to mel, chroma, beats and clip statistics: pure functions."""
