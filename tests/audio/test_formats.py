"""Every audio format with every fault: the whole sound at its pitch, or a sentence that says why not."""

import io
import re
import struct
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import pytest
import soundfile
from audio_files import RATE_HZ, encoded
from matplotlib import image

from music_emotion.audio.decode import read_clip, read_waveform, recording_seconds
from music_emotion.audio.settings import FeatureSettings
from music_emotion.files import InputError

READ, CUT = "read", "read up to the cut"
PARTS = ((1.5, 500), (2.5, 900))  # seconds and Hz
SECONDS = 4.0
ANSWERS = {  # read, or the reason why not
    "r": READ,
    "p": CUT,
    "e": "the file is empty",
    "s": "is silent",
    "f": "not finite",
    "g": "The sample rate changes",
    "c": "the file is cut off",
    "j": "joined",
    "n": "no decoder can read it to its end",
    "0": "the recording has no samples",
    "h": "its header states .* but it holds",
    "m": "holds more than its header",
    "d": "the audio can't be decoded",
}
# format: how soundfile or FFmpeg writes it, and what each fault gives, in the order of FAULTS
FORMATS = {
    "wav": ("WAV PCM_16", "rrrs- drrjj jdjj c- jcrr-- c-de"),
    "wav-float": ("WAV FLOAT", "rrr-f drrjj jdjj c- jcrr-- c-de"),
    "wav-extensible": ("WAVEX PCM_24", "rrr-- drrjj jdjj c- jcrr-- c-de"),
    "wav-adpcm": ("WAV MS_ADPCM", "rrr-- drrjj jdjj c- ccrr-- 0-de"),
    "rf64": ("RF64 PCM_16", "r-r-- drrjj jdjj c- jc0d-- d-de"),
    "w64": ("W64 FLOAT", "r-r-f rfccc cjcc c- crrr-- d-de"),
    "aiff": ("AIFF PCM_16", "rrr-- drrjj jdjj c- jcrr-- c-de"),
    "au": ("AU FLOAT", "r-r-f drhhh hdhh c- hc0r-- c-de"),
    "caf": ("CAF FLOAT", "r-r-f drccc cdcc c- ccrr-- d-de"),
    "caf-alac": ("CAF ALAC_16", "r-r-- drrrr jdjj cc ------ d-de"),
    "flac": ("FLAC PCM_16", "rrrs- rrrrr mmgm cc rcrc-- c-de"),
    "ogg": ("OGG VORBIS", "rrrs- drccc rdnn cc ------ d-de"),
    "opus": ("OGG OPUS", "r-rs- drccc rdrn cc ------ d-de"),
    "mp3-lame": ("MP3 MPEG_LAYER_III", "rrr-- rrrrr rrgr cc rcrcr- d-de"),
    "mp3-cbr": ("libmp3lame", "rrrs- rrrrr rrgr cc rcrcrr d-de"),
    "mp3-vbr": ("libmp3lame global_quality=500 flags=+qscale", "rrr-- rrrrr rrgr cc rcrcrr d-de"),
    "mp3-vbri": ("libmp3lame global_quality=500 flags=+qscale", "rrr-- rrrrr rrgr pp rrrr-- d-de"),
    "mp2": ("mp2", "r-r-- rrrrr rrcc pp ------ d-de"),
    "aac": ("aac", "r-r-- rrrrr rrgr pp ------ d-de"),
    "ac3": ("ac3", "r-r-- crrrr rcgr pp ------ d-de"),
    "eac3": ("eac3", "r-r-- crrrr rcgr pp ------ d-de"),
    "m4a-aac": ("aac", "rrrs- drrrr jdjj dd rrrr-r d-de"),
    "m4a-alac": ("alac", "rrr-- drrrr jdjj dd rrrr-r d-de"),
    "mp4-aac": ("aac movflags=faststart", "rrr-- drrrr jdjj cc rrrr-- ddde"),
    "mov-pcm": ("pcm_s16le", "rrr-- drrrr jdjj d- rrrr-r ddde"),
    "webm-opus": ("libopus", "rrrs- drrrr jdjj cc rcrr-r ddde"),
    "webm-vorbis": ("OGG VORBIS", "rrr-- drrrr jdjj cc rcrr-r ddde"),
    "mkv-aac": ("aac", "rrr-- drrrr jdjj cc rcrr-r ddde"),
    "mka-alac": ("alac", "rrr-- drrrr jdjj cc rcrr-r d-de"),
    "wma": ("wmav2", "rrrs- drccc cdcc cc ccrc-- d-de"),
    "wv": ("wavpack", "rrr-- dnnnn ndnn nn rrrr-- 0-de"),
    "tta": ("tta", "rrr-- rrrrr jjjj cm ------ c-de"),
    "ts-aac": ("aac", "r-r-- crrrn rcgr pn ------ ddde"),
    "avi-mp3": ("libmp3lame", "rrr-- drrrr rdgr cc ------ ddde"),
}
_RIFF = [(b"RIFF", 4, "<I"), (b"data", 4, "<I")]
_MP4 = [(b"mvhd", 20, ">I"), (b"tkhd", 24, ">I"), (b"mdhd", 20, ">I")]
_MKV = [(b"\x44\x89\x88", 3, ">d")]
_ASF = [(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"), at, "<Q") for at in (40, 56, 64, 72)]
STATED = {  # where a header has the length: after which bytes, how far from their start, how it is written
    **{"wav": _RIFF, "rf64": [(b"ds64", at, "<Q") for at in (8, 16, 24)], "au": [(b".snd", 8, ">I")]},
    **{"w64": [(b"riff", 16, "<Q"), (b"data\xf3\xac", 16, "<Q")], "caf": [(b"data", 4, ">Q")]},
    **{"aiff": [(b"FORM", 4, ">I"), (b"COMM", 10, ">I"), (b"SSND", 4, ">I")], "flac": [(b"fLaC", 22, ">I")]},
    **{"mp3": [(b"Xing", 8, ">I"), (b"Info", 8, ">I"), (b"VBRI", 14, ">I")], "wv": [(b"wvpk", 12, "<I")]},
    **{"m4a": _MP4, "mp4": _MP4, "mov": _MP4, "webm": _MKV, "mkv": _MKV, "mka": _MKV, "wma": _ASF},
}
_IN_PIECES = {"movflags": "empty_moov+default_base_moof+frag_keyframe", "frag_duration": "500000"}
STREAMED = {"m4a": _IN_PIECES, "mov": _IN_PIECES, "mp3": {"write_xing": "0"}}  # others: live


def family(name: str) -> str:
    return name.partition("-")[0]


def rate_of(name: str, divisor: float = 1) -> int:
    return round((48000 if name.endswith("opus") else 44100) / divisor)


def tones(name: str, parts: tuple[int, ...] = (0, 1), divisor: float = 1) -> np.ndarray:
    """Stereo: a part of 500 Hz, then one of 900 Hz."""
    rate_hz = rate_of(name, divisor)
    phases = [2 * np.pi * PARTS[part][1] / rate_hz * np.arange(PARTS[part][0] * rate_hz) for part in parts]
    return np.repeat(0.3 * np.sin(np.concatenate(phases, dtype=np.float32))[:, None], 2, axis=1)


def encode(name: str, samples: np.ndarray, divisor: float = 1, comment: str = "", **options: str) -> bytes:
    kind, *more = FORMATS[name][0].split()
    rate_hz = rate_of(name, divisor)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{family(name)}"
        if kind.isupper():
            with soundfile.SoundFile(path, "w", rate_hz, samples.shape[1], more[0], format=kind) as file:
                if comment:
                    file.comment = comment
                file.write(samples)
        else:
            options |= dict(option.split("=") for option in more)
            encoded(path, kind, samples, rate_hz, comment, **options)
        if name == "webm-vorbis":
            path = in_webm(path, options)
        made = path.read_bytes()
    return with_vbri(made) if name == "mp3-vbri" else made


def in_webm(ogg: Path, options: dict[str, str]) -> Path:
    path = ogg.with_name("b.webm")
    with av.open(ogg) as source, av.open(path, "w", options=options) as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


def with_vbri(made: bytes) -> bytes:
    """Replace the Xing header by that of another encoder, 36 bytes after its frame begins."""
    at, sync = next((made.index(tag), made.index(b"\xff")) for tag in (b"Xing", b"Info") if tag in made)
    n_frames, n_bytes = struct.unpack_from(">II", made, at + 8)
    header = struct.pack(">4sHHHIIHHHHH", b"VBRI", 1, 0, 75, n_bytes, n_frames, 0, 1, 2, 1, 0)
    blank = made[:at] + bytes(160) + made[at + 160 :]
    return blank[: sync + 36] + header + blank[sync + 36 + len(header) :]


@cache
def part(name: str, parts: tuple[int, ...] = (0, 1), divisor: float = 1, n_channels: int = 2) -> bytes:
    return encode(name, tones(name, parts, divisor)[:, :n_channels], divisor)


def joined(name: str, divisor: float = 1, n_channels: int = 2) -> bytes:
    return part(name, (0,)) + part(name, (1,), divisor, n_channels)


def cut(name: str) -> bytes:
    return part(name)[: len(part(name)) * 6 // 10]


def covered(name: str) -> bytes:
    if family(name) not in ("wav", "aiff"):
        return encode(name, tones(name), comment="x" * 200_000)
    order, whole = "<I" if family(name) == "wav" else ">I", part(name)
    chunk = b"ID3 " + struct.pack(order, len(ID3V2)) + ID3V2
    return whole[:4] + struct.pack(order, len(whole + chunk) - 8) + whole[8:] + chunk


def restated(name: str, factor: float | None) -> bytes:
    """Change the length in the header; None sets all of its bits."""
    whole = part(name)
    changed = bytearray(whole)
    for marker, offset, form in STATED[family(name)]:
        if marker in whole:
            at, number = whole.index(marker) + offset, float if form == ">d" else int
            (value,) = struct.unpack_from(form, whole, at)
            ones = b"\xff" * struct.calcsize(form)
            other = ones if factor is None else struct.pack(form, number(value * factor))
            changed[at : at + len(ones)] = other
    return bytes(changed)


def film(name: str) -> bytes:
    file = io.BytesIO()
    kind = {"mkv": "matroska", "ts": "mpegts"}.get(family(name), family(name))
    with av.open(file, "w", format=kind) as target:
        stream = target.add_stream("libvpx" if family(name) == "webm" else "mpeg4", 25, width=64, height=64)
        for packet in [*stream.encode(av.VideoFrame(64, 64, "yuv420p")), *stream.encode(None)]:
            target.mux(packet)
    return file.getvalue()


def apic(picture: bytes) -> bytes:
    body = b"\0image/jpeg\0\3\0" + picture
    return b"APIC" + len(body).to_bytes(4, "big") + b"\0\0" + body


image.imsave(_file := io.BytesIO(), np.random.default_rng(0).random((400, 400, 3)), format="jpg")
JPEG = _file.getvalue()
ID3V1 = b"TAG" + b"Title".ljust(30) + b"Artist".ljust(30) + bytes(65)
_FRAME = apic(JPEG).ljust(240_000, b"\0")
ID3V2 = b"ID3\3\0\0" + bytes(len(_FRAME) >> shift & 127 for shift in (21, 14, 7, 0)) + _FRAME
_ITEM = struct.pack("<II", len(JPEG) + 10, 2) + b"Cover Art (Front)\0cover.jpg\0" + JPEG
_ENDS = [
    struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(_ITEM) + 32, 1, flags) for flags in (5 << 29, 1 << 31)
]
APE = _ENDS[0] + _ITEM + _ENDS[1]
FAULTS = {
    "whole": ("no fault", part),
    "cover": ("a cover, or as much text, inside the file", covered),
    "opposite": ("one channel is the other, inverted", lambda n: encode(n, tones(n) * np.float32([1, -1]))),
    "silence": ("all samples are zero", lambda n: encode(n, 0 * tones(n))),
    "nan": ("one sample is not a number", lambda n: encode(n, np.append(tones(n), [[np.nan] * 2], axis=0))),
    "id3v2": ("an ID3v2 tag with a cover before the file", lambda n: ID3V2 + part(n)),
    "id3v1": ("an ID3v1 tag after the file", lambda n: part(n) + ID3V1),
    "ape": ("an APE tag with a cover after the file", lambda n: part(n) + APE),
    "jpeg": ("a picture of 200 kB after the file", lambda n: part(n) + JPEG),
    "zeros": ("200 kB of zeros after the file", lambda n: part(n) + bytes(200_000)),
    "joined": ("two files in one, by `cat`", joined),
    "tagged": (
        "two files in one, with tags before and after each",
        lambda n: b"".join(ID3V2 + part(n, (number,)) + ID3V1 for number in (0, 1)),
    ),
    "rate": (
        "two files in one, the second at another sample rate",
        lambda n: joined(n, divisor=44100 / 32000 if "ac3" in n else 2),
    ),
    "channels": ("two files in one, the second with one channel", lambda n: joined(n, n_channels=1)),
    "truncated": ("the last 40 % is missing", cut),
    "blank": ("the last 40 % is zeros", lambda n: cut(n).ljust(len(part(n)), b"\0")),
    "small": ("the header states a quarter of the length", lambda n: restated(n, 0.25)),
    "large": ("the header states four times the length", lambda n: restated(n, 4)),
    "zero": ("the header states a length of 0", lambda n: restated(n, 0)),
    "ones": ("the header states the largest number", lambda n: restated(n, None)),
    "unstated": (
        "the Xing header states nothing",
        lambda n: re.sub(rb"(Xing|Info)....", rb"\1\0\0\0\0", part(n), count=1, flags=re.DOTALL),
    ),
    "streamed": (
        "written to a pipe, without its length",
        lambda n: encode(n, tones(n), **STREAMED.get(family(n), {"live": "1"})),
    ),
    "header": ("the first 100 bytes alone", lambda n: part(n)[:100]),
    "video": ("a film without sound", film),
    "text": ("text with the ending of the format", lambda _: b"this is not audio\n" * 3000),
    "empty": ("no bytes", lambda _: b""),
}
IN_TWO = ("joined", "tagged", "rate", "channels")
CELLS = {
    (name, fault): ANSWERS[letter]
    for name, (_, letters) in FORMATS.items()
    for fault, letter in zip(FAULTS, letters.replace(" ", ""), strict=True)
    if letter != "-"
}


def write(folder: Path, name: str, fault: str) -> Path:
    path = folder / f"{fault}.{name}.{family(name)}"
    path.write_bytes(FAULTS[fault][1](name))
    return path


def tolerance(name: str, fault: str) -> float:
    """Encoders fill up the ends of a file, by up to three packets of an mp3 that does not say so."""
    return 0.16 if fault in (*IN_TWO, "unstated") or name == "mp3-vbri" else 0.05


def pitch(waveform: np.ndarray, seconds: float) -> float:
    """The strongest frequency of half a second."""
    span = waveform[round(seconds * RATE_HZ) :][: RATE_HZ // 2]
    return 2 * np.abs(np.fft.rfft(span * np.hanning(len(span)))).argmax()


@pytest.mark.parametrize(("name", "fault"), CELLS)
def test_the_whole_sound_is_read_or_refused_with_the_reason(tmp_path, name, fault):
    path, reason = write(tmp_path, name, fault), CELLS[name, fault]
    if reason not in (READ, CUT):
        with pytest.raises(InputError, match=f"{re.escape(str(path))}: .*{reason}"):
            read_clip(path, FeatureSettings())
        return
    waveform = read_clip(path, FeatureSettings())
    seconds = len(waveform) / RATE_HZ
    written, tolerated = (2.5, 0.2) if reason == CUT else (SECONDS, tolerance(name, fault))
    assert [seconds, recording_seconds(path)] == pytest.approx([written] * 2, abs=tolerated)
    pitches = [pitch(waveform, at) for at in (0.1, 0.9, 1.6, seconds - 0.6)]
    assert pitches == pytest.approx([500, 500, 900, 900], abs=4)
    assert np.std(waveform) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)
    span = read_waveform(path, RATE_HZ, 1.6, 2.2)
    assert [len(span) / RATE_HZ, pitch(span, 0.05)] == pytest.approx([0.6, 900], rel=0.005)


@pytest.mark.needs("ffmpeg")
@pytest.mark.parametrize("name", FORMATS)
def test_ffmpeg_decodes_the_same_length(tmp_path, name):
    odd = ("zero", "ones") if name in ("w64", "aiff") else ()  # which the program refuses
    faults = [fault for fault in FAULTS if CELLS.get((name, fault)) == READ and fault not in odd]
    inputs, outputs = [], []
    for number, fault in enumerate(faults):
        inputs += ["-i", write(tmp_path, name, fault)]
        outputs += ["-map", f"{number}:a:0", "-ac", "1", "-ar", "8000", "-f", "u8", tmp_path / fault]
    subprocess.run(["ffmpeg", "-v", "fatal", *inputs, *outputs], check=True)
    lengths = {fault: (tmp_path / fault).stat().st_size / 8000 for fault in faults}
    assert {fault: s for fault, s in lengths.items() if abs(s - SECONDS) > tolerance(name, fault)} == {}


def test_the_page_of_formats_has_these_answers():
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    (_, *groups), *rows = [line[2:-2].split(" | ") for line in page.splitlines() if line.startswith("| ")]
    said = {}
    for (fault, (words, _)), (description, *answers) in zip(FAULTS.items(), rows, strict=True):
        assert description == words
        for names, answer in zip(groups, answers, strict=True):
            said |= {(name, fault): answer for name in names.split(", ")}
            assert not answer or any((name, fault) in CELLS for name in names.split(", "))
    for cell, reason in CELLS.items():
        assert said[cell] == (reason if reason in (READ, CUT) else "refused"), cell
