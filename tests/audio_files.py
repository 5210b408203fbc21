"""Audio files of any format, as soundfile and FFmpeg write them."""

from pathlib import Path

import av
import numpy as np
import soundfile

RATE_HZ = 22050


def folder_of(root: Path, *names: str) -> Path:
    """Make empty files, since names are enough to find audio."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def noise(seconds: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * rate_hz)).astype(np.float32)


def encoded(
    path: Path, codec: str, samples: np.ndarray, rate_hz: int = RATE_HZ, comment: str = "", **options: str
) -> Path:
    """Samples [shape=(n,) or (n, n_channels)] through FFmpeg."""
    channels = np.atleast_2d(samples.T)
    layout = {1: "mono", 2: "stereo"}[len(channels)]
    codec_options = {name: options.pop(name) for name in ("global_quality", "flags") if name in options}
    with av.open(str(path), "w", format={".aac": "adts"}.get(path.suffix), options=options) as container:
        if comment:
            container.metadata["comment"] = comment
        stream = container.add_stream(codec, rate=rate_hz, layout=layout, options=codec_options)
        stream.bit_rate = 128000
        context = stream.codec_context
        context.open()
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels), format="fltp", layout=layout)
        frame.sample_rate = rate_hz
        resampler = av.AudioResampler(context.format.name, layout, rate_hz, context.frame_size or None)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))
    return path


def written(path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ, subtype: str | None = None) -> Path:
    match path.suffix:
        case ".m4a":
            return encoded(path, "aac", samples, rate_hz)
        case ".webm":
            return encoded(path, "libopus", samples, 48000)
        case ".opus":
            soundfile.write(path, samples, 24000, format="OGG", subtype="OPUS")
        case _:
            soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path
