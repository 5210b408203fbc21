"""Folders of public data sets as people unpack them, traps included; labels and sounds are invented."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from audio_files import noise, written

from music_emotion.datasets.public import gtzan as gtzan_reader

RATE_HZ = 22050
Songs = Sequence[tuple[int, float, float]]  # id, arousal, valence


def put(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """Write a text with its line ends as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def sounds(root: Path, names: Iterable[str]) -> None:
    """Write a short sound under each name, another for each."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sound(number, path.suffix[1:]))


@cache
def sound(number: int, ending: str = "mp3", seconds: float = 2.0, rate_hz: int = RATE_HZ) -> bytes:
    """An audio file of a tone and noise."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    random = np.random.default_rng(number).normal(0, 0.1, len(time))
    file = io.BytesIO()
    tone = 0.2 * np.sin(2 * np.pi * 110 * (1 + number % 20) * time)
    soundfile.write(file, tone + random, rate_hz, format=ending)
    return file.getvalue()


# Songs of which only the labels matter, enough for correlations.
OTHERS = [
    (first + k, *labels)
    for first in (100, 1100)
    for k, labels in enumerate(np.round(np.random.default_rng(first).uniform(1, 9, (12, 2)), 1))
]


def deam(root: Path, is_padded: bool = True, blank: str = " ", is_exchanged: bool = True) -> Path:
    """The official archives in one folder, with valence and arousal of the first 1000 songs exchanged."""
    songs = [(2, 3.1, 3.0), (5, 4.4, 5.3), (1000, 4.4, 3.0), (1001, 3.1, 3.0), *OTHERS]
    rows = {k: (a, v) if k <= 1000 and is_exchanged else (v, a) for k, a, v in sorted(songs)}
    row = "{:>7d},{:>12} ,{:>12},{:>12} ,{:>12}" if is_padded else "{},{},{},{},{}"
    lines = [row.format(k, v, 0.94, a, 0.63) for k, (v, a) in rows.items()]
    songs_of_2015 = ["2001,3.2,0.9,4,1,2,1,4.6,0.8,5,1,3,1", "2031,3.0,0.9,4,1,2,1,5.3,0.8,5,1,3,1"]
    labels = root / "annotations" / f"annotations{blank}averaged{blank}per{blank}song"
    static = labels / "song_level" / "static_annotations_averaged_songs_1_2000.csv"
    put(static, "\n".join(["song_id, valence_mean, valence_std, arousal_mean, arousal_std", *lines, ""]))
    parts = [
        f"{t}_mean, {t}_std, {t}_{{}}max_mean, {t}_max_std, {t}_min_mean, {t}_min_std" for t in ("v", "a")
    ]
    header = (
        ", ".join(["song_id", *parts]).format(" ", "").replace("v_", "valence_").replace("a_", "arousal_")
    )
    put(
        static.with_name("static_annotations_averaged_songs_2000_2058.csv"),
        "\n".join([header, *songs_of_2015]),
    )
    over_time = labels / f"dynamic{blank}(per{blank}second{blank}annotations)"
    for column, name in ((1, "arousal"), (2, "valence")):
        cells = [f"{song[0]},{(song[column] - 5) / 4},{(song[column] - 5) / 4:.4f}," for song in songs]
        cells.append("2001,-2.775558e-18,-0.5,0.5")
        names = "song_id,sample_15000ms,sample_15500ms,sample_16000ms"
        put(over_time / f"{name}.csv", "\n".join([names, *cells]))
    put(root / "annotations" / "annotations per each rater" / "dynamic" / "arousal" / "2.csv", "WorkerId\n")
    metadata = root / "metadata"
    put(
        metadata / "metadata_2013.csv",
        "song_id,file_name,Artist,Song title,start of the segment (min.sec),"
        "end of the segment (min.sec),Genre\n"
        '2,"\t2.mp3","Mr. & Mrs. Smith\t","\tTonight  A Lonely Century\t","\t0.48\t","\t1.33\t","\tBlues\t"\n'
        '5,"\t5.mp3","Aaron Dunn-Sonatina No. 1","\tA, B\t","\t0.48\t","\t1.33\t","\tBlues\t"\n'
        '1000,"\t1000.mp3","\taaron  dunn\t","\tC\t","\t0.48\t","\t1.33\t","\tBlues\t"\n',
    )
    put(
        metadata / "metadata_2014.csv",
        "Id,Artist,Album,Track,Genre,segment start,segment end,last.fm labels\n"
        '1001,Mr. & Mrs. Smith,From "Holly, with Love,Blues-Rock,10,55,blues,rock,calm,slow,old\n',
    )
    put(
        metadata / "metadata_2015.csv",
        "id,Filename,title,artist,album,genre,\n2001,a.mp3,b,Someone,c,d,\n2031,7,e,No, Really,f,g,h,i,j\n",
    )
    held = {*rows, 2001, 2031} - {2, 1001, 111}  # 111 is missing
    sounds(root / "MEMD_audio", [f"{song}.mp3" for song in sorted(held)])
    stereo = noise(2, 44100).reshape(-1, 1).repeat(2, axis=1)
    written(root / "MEMD_audio" / "2.mp3", stereo, 44100)
    written(root / "MEMD_audio" / "1001.mp3", noise(2, 16000), 16000)
    return root


EMOMUSIC = [(2, 3.1, 3.0), (3, 3.5, 5.3), (7, 4.4, 3.0), (10, 5.3, 4.4)]
MORE = [(20 + k, arousal, valence) for k, (_, arousal, valence) in enumerate(OTHERS[:12])]
_ARTISTS = ("The New Mystikal Troubadours", "\tAaron Dunn-Sonatina No. 1 in C Major\t")  # validate; train
_SONGS_INFO = (
    '"song_id","file_name","Artist","Song title","start of the segment (min.sec)",'
    '"end of the segment (min.sec)","Genre","Mediaeval 2013 set"\n'
    f'2,"\t2.mp3","{_ARTISTS[0]}\t","\tTonight  A Lonely Century\t","\t0.2\t","\t1.05\t",'
    '"\tBlues\t","development"\n'
    f'3,"\t3.mp3","{_ARTISTS[1]}","\tx\t","\t1\t","\t1.45\t",'
    '"\tRock\t","development"\n'
    '7,"7.mp3","Kevin MacLeod","y","2.1","2.55","Folk","evaluation"\n'
    '10,"10.mp3","Mötörhead!","z","0","0.45","Folk","development"\n'
    + "".join(
        f'{song},"{song}.mp3","{_ARTISTS[k % 2]}","z","0","0.45","Folk",'
        f'"{"evaluation" if k < 4 else "development"}"\n'
        for k, (song, *_) in enumerate(MORE)
    )
)


def emomusic(
    root: Path,
    songs: Songs = (*EMOMUSIC, *MORE),
    is_renamed: bool = False,
    audio: str | None = "clips_45seconds",
) -> Path:
    """The tables of annotations.tar.gz; start times without the zeros at the ends of numbers."""
    if is_renamed:
        rows = [f"{k},{v},0.6,{a},0.9" for k, a, v in songs]
        header = "song_id,valence_mean,valence_std,arousal_mean,arousal_std"
    else:
        rows = [f"{k},{a},0.9,{v},0.6" for k, a, v in songs]
        header = "song_id,mean_arousal,std_arousal,mean_valence,std_valence"
    put(root / "static_annotations.csv", "\n".join([header, *rows, ""]))
    put(root / "songs_info.csv", _SONGS_INFO)
    for name, value in (("arousal", 0.2), ("valence", -0.4)):
        rows = [f"{song[0]},{value},{value / 2}" for song in songs]
        header = "song_id,sample_15000ms,sample_15500ms"
        put(root / f"{name}_cont_average.csv", "\n".join([header, *rows, ""]))
        put(root / f"{name}_cont_std.csv", header + "\n")
    if audio is not None:
        sounds(root / audio, [f"{song}.mp3" for song, *_ in songs])
    return root


def pmemo(root: Path, form: str = "2019", more: Songs = MORE) -> Path:
    """Id 11 has no label, since its clip is too short; 644 and 645 are one song."""
    labels = {1: (0.4, 0.575), 4: (0.2625, 0.2875), 644: (0.74, 0.76), 645: (0.60, 0.61)}
    labels |= {song: (arousal / 10, valence / 10) for song, arousal, valence in more}
    if form == "2018":
        for column, letter in enumerate("AV"):
            rows = [f"{k},{values[column]},0.15" for k, values in labels.items()]
            put(root / f"{letter}_static.csv", "\n".join([f"musicId,mean_{letter},std_{letter}", *rows, ""]))
    elif form == "2019":
        rows = [f"{k},{a},{v}" for k, (a, v) in labels.items()]
        header = "musicId,Arousal(mean),Valence(mean)"
        put(root / "annotations" / "static_annotations.csv", "\n".join([header, *rows, ""]))
        put(root / "annotations" / "static_annotations_std.csv", "musicId,Arousal(std),Valence(std)\n")
        header = "musicId,frameTime,Arousal(mean),Valence(mean)"
        rows = ["1,15.5,0.4376625,0.5599749999999999", "1,16.0,0.5,0.56", "11,15.5,0.5,0.5", "4,15.5,1.5,0.5"]
        put(root / "annotations" / "dynamic_annotations.csv", "\n".join([header, *rows, ""]))
    else:
        rows = [
            f"{k},{1 + 8 * v},0.160078105936,{1 + 8 * a},0.1561249499599999" for k, (a, v) in labels.items()
        ]
        header = "song_id,valence_mean,valence_std,arousal_mean,arousal_std"
        put(root / "static_annotations.csv", "\n".join([header, *rows, ""]))
    put(
        root / "metadata.csv",
        "musicId,fileName,title,artist,album,duration,chorus_start_time,chorus_end_time\n"
        '1,1.mp3,Good Drank,2 Chainz,"Def Jam Presents: Direct Deposit, Vol. 2",32.1,02:35,03:05\n'
        '4,4.mp3,"Say ""No""",Drake,,40.0,00:10,00:50\n11,11.mp3,Short,drake,x,15.08,00:10,00:25\n'
        "644,644.mp3,One “Song”,Adele,x,30,00:10,00:40\n645,645.mp3,One “Song”,Adele,x,30,00:10,00:40\n"
        + "".join(f"{song},{song}.mp3,Song {song},Band {song},x,30,00:10,00:40\n" for song, *_ in more),
    )
    sounds(root / ("Chorus" if form == "2018" else "chorus"), [f"{k}.mp3" for k in (*labels, 11)])
    return root


_FMA_BLOCKS = {
    "album": "comments date_created date_released engineer favorites id information listens producer tags "
    "title tracks type",
    "artist": "active_year_begin active_year_end associated_labels bio comments date_created favorites id "
    "latitude location longitude members name related_projects tags website wikipedia_page",
    "set": "split subset",
    "track": "bit_rate comments composer date_created date_recorded duration favorites genre_top genres "
    "genres_all information interest language_code license listens lyricist number publisher tags title",
}
_FMA_NAMES = [(block, column) for block, columns in _FMA_BLOCKS.items() for column in columns.split()]


def fma_metadata(
    folder: Path,
    tracks: Mapping[int, tuple[str, str, str, str]],
    echonest: Mapping[int, tuple[float, float, float]],
    one_head_line: bool = False,
) -> None:
    """The tables of FMA with several head lines, or with one as in some copies, and line breaks in cells.

    Tracks have subset, split, artist and genre; Echonest's values are danceability, energy and valence.
    """
    rows = []
    for track, (subset, split, artist, genre) in tracks.items():
        values = {("set", "subset"): subset, ("set", "split"): split, ("artist", "id"): artist}
        values |= {("track", "genre_top"): genre, ("album", "id"): "-1"}
        values |= {("artist", "bio"): '<p>Said "hello",</p>\n2,,\nNew', ("artist", "members"): "Nicky Cook\n"}
        rows.append([track, *(values.get(name, "") for name in _FMA_NAMES)])
    head = [["", *(block for block, _ in _FMA_NAMES)], ["", *(column for _, column in _FMA_NAMES)]]
    head = [*head, ["track_id", *("" for _ in _FMA_NAMES)]]
    flat = [["track_id", *(f"{block}_{column}" for block, column in _FMA_NAMES)]]
    put_rows(folder / "tracks.csv", [*(flat if one_head_line else head), *rows])
    features = "acousticness danceability energy instrumentalness liveness speechiness tempo valence"
    columns = [("audio_features", name) for name in features.split()]
    columns += [("metadata", "artist_location"), ("temporal_features", "000"), ("temporal_features", "001")]
    rows = [
        [track, ".1", d, e, *(".1" for _ in range(3)), "165.9", v, "Georgia, US", "1", "2"]
        for track, (d, e, v) in echonest.items()
    ]
    head = [
        ["", *("echonest" for _ in columns)],
        ["", *(b for b, _ in columns)],
        ["", *(c for _, c in columns)],
    ]
    head = [*head, ["track_id", *("" for _ in columns)]]
    flat = [["track_id", *(f"{block}_{column}" for block, column in columns)]]
    put_rows(folder / "echonest.csv", [*(flat if one_head_line else head), *rows])


def put_rows(path: Path, rows: list[list[object]]) -> None:
    """Write a table with quotes where needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def fma_audio(folder: Path, *tracks: int) -> None:
    """Write sounds as FMA names them."""
    sounds(folder, [f"{track // 1000:03d}/{track:06d}.mp3" for track in tracks])


def fma(root: Path) -> Path:
    """Sixteen tracks of two genres, in the order training, validation, test; and one that is broken."""
    parts = ["training"] * 8 + ["validation"] * 4 + ["test"] * 4
    tracks = {
        2000 + k: ("small", part, str(k), ("Hip-Hop", "Experimental")[k % 2]) for k, part in enumerate(parts)
    }
    tracks[98565] = tracks[2000]
    values = np.random.default_rng(0).random((17, 3)).round(6).tolist()
    fma_metadata(root / "fma_metadata", tracks, dict(zip(tracks, values, strict=True)))
    fma_audio(root / "fma_small", *tracks)
    return root


_JAMENDO_HEAD = "TRACK_ID ARTIST_ID ALBUM_ID PATH DURATION TAGS"
_JAMENDO_TRACKS = {1000 + k: (k, 2.0, ("calm", "dark happy", "happy", "calm dark")[k % 4]) for k in range(16)}


def jamendo(
    root: Path,
    tracks: Mapping[int, tuple[int, float, str]] = _JAMENDO_TRACKS,
    splits: Sequence[Sequence[Sequence[int]]] = ((range(1000, 1008), range(1008, 1012), range(1012, 1016)),),
    audio: str = "{}.mp3",
    missing: Iterable[int] = (),
) -> Path:
    """Tables with rows of different length. Tracks have artist, seconds and tags; splits have three parts."""

    def table(path: Path, held: Iterable[int]) -> None:
        rows = [_JAMENDO_HEAD.split()]
        for track in held:
            artist, seconds, tags = tracks[track]
            place = f"{track % 100:02d}/{track}.mp3"
            own = [f"track_{track:07d}", f"artist_{artist:06d}", "album_001749", place]
            rows.append([*own, str(seconds), *(f"mood/theme---{tag}" for tag in tags.split())])
        put(path, "".join("\t".join(row) + "\r\n" for row in rows))

    data = root / "mtg-jamendo-dataset" / "data"
    table(data / "autotagging_moodtheme.tsv", tracks)
    for number, parts in enumerate(splits):
        for split, held in zip(("train", "validation", "test"), parts, strict=True):
            table(data / "splits" / f"split-{number}" / f"autotagging_moodtheme-{split}.tsv", held)
    for track in tracks.keys() - missing:
        path = root / "audio" / f"{track % 100:02d}" / audio.format(track)
        path.parent.mkdir(parents=True, exist_ok=True)
        # spans are compared with the length of the audio when the table is read
        path.write_bytes(sound(track, "mp3", tracks[track][1], 8000))
    return root


def gtzan(root: Path, clips: Sequence[str] = (), top: str = "genres", ending: str = ".wav") -> Path:
    """Clips such as blues.00029, by default of three genres and all lists; files of Marsyas and of a Mac."""
    if not clips:
        lists = Path(gtzan_reader.__file__).with_name("splits").glob("gtzan-*.txt")
        lines = [Path(line).stem for path in sorted(lists) for line in path.read_text().split()]
        clips = [line for line in lines if line[:3] in ("blu", "hip", "met")][::10]
    sounds(root / top, [f"{clip.split('.')[0]}/{clip}{ending}" for clip in clips])
    put(root / top / "bextract_single.mf", "0\n")
    put(root / top / "._blues.00029.au", "")
    return root


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
        f"{names},Arousal,Valence\n"
        + "".join(f"{song},0.{n + 10},0.{50 - n}\n" for n, song in enumerate(written)),
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


FOLDERS = {
    **{"deam": deam, "emomusic": emomusic, "pmemo": pmemo, "fma": fma, "jamendo": jamendo},
    **{"emotify": emotify, "gtzan": gtzan, "4q": quadrants, "merge": merge, "soundtracks": soundtracks},
}
