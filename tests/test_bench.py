"""The benchmark of the extraction compares and times for real, and ends in the line that others read."""

import re

import numpy as np
import pytest
import soundfile

from music_emotion.bench import extraction


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(2):
        samples = 0.05 * rng.standard_normal(3 * 22050)
        samples[:: 22050 // 2] = 0.9
        soundfile.write(tmp_path / f"{number}.wav", samples, 22050)
    (tmp_path / "clips.csv").write_text("path\n0.wav\n1.wav\n")
    return tmp_path / "clips.csv"


def test_the_extraction_is_compared_and_timed(table, capsys):
    extraction.extract(table, clips=2, rounds=2, jobs=1)
    printed = capsys.readouterr().out
    assert "identical beat frames: 2 of 2 (100.00 %)" in printed
    assert printed.count("0 clips above") == 4
    assert len(re.findall(r"[\d.]+ clips per second", printed)) == 4
    sizes_mb = [int(size) for size in re.findall(r"(\d+) MB at most in a worker process", printed)]
    assert len(sizes_mb) == 2
    assert 100 < sizes_mb[1] < 600
    last = re.fullmatch(r"beat_sync_ratio ([\d.]+) ([\d.]+) ([\d.]+) 4", printed.splitlines()[-1])
    assert last is not None
    median, least, most = (float(number) for number in last.groups())
    assert 1 < least <= median <= most


def test_a_difference_is_counted_and_named(table, capsys, monkeypatch):
    right = extraction.fused_features

    def wrong(waveform, settings):
        full, beat = right(waveform, settings)
        return full + np.float32(0.5), beat

    monkeypatch.setattr(extraction, "fused_features", wrong)
    monkeypatch.setattr(extraction, "beat_frames", lambda *_: np.array([1, 2]))
    extraction.report_equality([table.parent / "0.wav"], jobs=1)
    printed = capsys.readouterr().out
    assert "identical beat frames: 0 of 1 (0.00 %)" in printed
    assert re.search(r"mel_db: largest difference 5\.00e-01.*; 1 clips above 0\.001", printed)
    assert "beat_chroma: largest difference inf" in printed
    assert "0.wav: 5.00e-01" in printed
