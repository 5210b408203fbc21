"""Folders of public data sets as people unpack them, traps included; labels and sounds are invented."""

import io
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 22050


def put(path: Path, text: str, encoding: str = "utf-8") -> None:
    """Write a text with its line ends as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def sounds(root: Path, names: Iterable[str]) -> None:
    """Write a short sound under each name, another for each."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sound(number))


@cache
def sound(number: int) -> bytes:
    """An MP3 of two seconds: a tone and noise."""
    time = np.arange(2 * RATE_HZ) / RATE_HZ
    noise = np.random.default_rng(number).normal(0, 0.1, len(time))
    file = io.BytesIO()
    soundfile.write(file, 0.2 * np.sin(2 * np.pi * 110 * (1 + number) * time) + noise, RATE_HZ, format="mp3")
    return file.getvalue()


def emotify(root: Path) -> Path:
    """Three listeners per track; the folders sort otherwise than the ids; one track has no file."""
    header = (
        "track id, genre, amazement, solemnity, tenderness, nostalgia, calmness, power,"
        " joyful_activation, tension, sadness, mood, liked, disliked, age, gender, mother tongue\n"
    )
    genres = ("classical", "rock", "electronic", "pop")
    rows = []
    for track in (*range(1, 5), *range(101, 105), *range(201, 205), *range(301, 306)):
        genre = genres[(track - 1) // 100]
        felt = ",".join(str((track + emotion) % 2) for emotion in range(9))
        rows += [f"{track},{genre},{felt},3,1,0,21,1,English\n"] * 2  # two people
        rows.append(f"{track},{genre},0,0,0,0,0,0,0,0,0,1,0,0,99,0,Dutch\n")
    put(root / "data.csv", header + "".join(rows))
    sounds(root / "emotifymusic", [f"{genre}/{n}.mp3" for genre in sorted(genres) for n in range(1, 5)])
    return root


def quadrants(root: Path) -> Path:
    """Tables with CRLF and with LF, an artist with quotes, one with a comma that became `;`, one empty."""
    root = root / "MER_audio_taffc_dataset"
    songs = [f"MT{4637 + 11 * n:010}" for n in range(12)]
    artists = ['The ""5"" Royales', "Harry Connick; Jr.", "", "", "the Others", "Others", "The others"]
    rows = [(song, f"Q{n % 4 + 1}", [*artists, *"abcde"][n]) for n, song in enumerate(songs)]
    put(
        root / "panda_dataset_taffc_annotations.csv",
        "Song,Quadrant\r\n" + "".join(f"{song},{quadrant}\r\n" for song, quadrant, _ in rows),
    )
    put(
        root / "panda_dataset_taffc_metadata.csv",
        '"Song","Artist","Title","Quadrant","Genres"\n'
        + "".join(f'"{s}","{artist}","One; two","{q}","Pop/Rock; R&B"\n' for s, q, artist in rows),
    )
    put(root / "readme.txt", "4Q\n")
    sounds(root, [f"{quadrant}/{song}.mp3" for song, quadrant, _ in rows])
    return root.parent


def merge(root: Path, part: str = "audio_complete", level: str = "", lyrics: bool = False) -> Path:
    """Two kinds of ids, both splits, a song in no split of 40-30-30; with lyrics other column names."""
    modality, size = part.split("_")
    root = root / f"MERGE_{modality.title()}_{size.title()}"
    songs = ["MT0000004637", "A001", "A061-66", *(f"A{n:03}" for n in range(100, 109))]
    artists = ["The Beatles", "the beatles", "Beatles", "", *"abcdefgh"]
    names = "Audio_Song,Lyric_Song" if lyrics else "Song"
    written = [f"{song},L{n:03}" if lyrics else song for n, song in enumerate(songs)]
    years = ("1970-??-??", "20/06/2005", "1999")
    put(
        root / f"merge_{part}_metadata.csv",
        f"{names},Quadrant,AllMusic Id,Artist,Title,Year,Moods\n"
        + "".join(
            f'{song},Q{n % 4 + 1},mt{n},{artists[n]},"Yes, no",{years[n % 3]},"sad,calm"\n'
            for n, song in enumerate(written)
        ),
    )
    put(
        root / f"merge_{part}_av_values.csv",
        f"{names},Arousal,Valence\n" + "".join(f"{song},0.{n + 10},0.5\n" for n, song in enumerate(written)),
    )
    for shares, ends in (("70_15_15", (0, 8, 10, 12)), ("40_30_30", (0, 5, 8, 11))):
        for number, split in enumerate(("train", "validate", "test")):
            held = songs[ends[number] : ends[number + 1]]
            put(
                root / f"tvt_dataframes/tvt_{shares}/tvt_{shares}_{split}_{part}.csv",
                "Song,Quadrant\n" + "".join(f"{song},Q1\n" for song in held),
            )
    sounds(root, [f"{level}Q{n % 4 + 1}/{song}.mp3" for n, song in enumerate(songs)])
    if lyrics:
        put(root / "lyrics/Q1/L001.txt", "la\n")
    return root


def soundtracks(root: Path, which: tuple[int, ...] = (1,), spare: str = "") -> Path:
    """Set 1, set 2 or both, whose files have the same numbers; `spare` gives two empty columns."""
    rated = "valence,energy,tension,anger,fear,happy,sad,tender"
    numbers = {1: range(1, 13), 2: (*range(1, 5), 10, 17, 84, 88, 95)}
    for each in which:
        # the value tells set and number: set 1 has 2 + number / 100, set 2 has 5 + number / 100
        rows = [f"{n:03}," + ",".join([f"{3 * each - 1 + n / 100:.2f}"] * 8) for n in numbers[each]]
        if each == 1:
            text = f"{'Number' if spare else 'number'},{rated},TARGET{spare}\n"
            text += "".join(f"{row},HAPPY{spare}\n" for row in rows)
        else:
            text = f"Number,{rated.title()},Beauty,Liking,TARGET,soundtrack,link\n"
            albums = {10: "Oliver Twist", 95: "Oliver Twist", 1: "Grizzle Man", 2: "Grizzly Man"}
            text += "".join(
                f"{row},7.77,8.63,VALENCE POS HIGH,{albums.get(n, f'Film {n}')},{n:03}\n"
                for n, row in zip(numbers[each], rows, strict=True)
            )
        put(root / f"mean_ratings_set{each}.csv", text)
        sounds(root, [f"Set{each}/Set{each}/{n:03}.mp3" for n in numbers[each]])
    return root


FOLDERS = {"emotify": emotify, "4q": quadrants, "merge": merge, "soundtracks": soundtracks}
