"""Read public data sets as people download them, and write them as tables of clips."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from music_emotion.datasets.audio_folder import audio_below, walk
from music_emotion.datasets.clip_table import OWN_COLUMNS
from music_emotion.datasets.layout import SPLITS, card_of
from music_emotion.files import InputError, first_five, nearest, write_json, write_table

NAMES = (
    *("deam", "emomusic", "pmemo", "fma", "jamendo"),
    *("emotify", "gtzan", "4q", "merge", "soundtracks"),
)


class Source:
    """A downloaded folder, and what its reader says about it.

    Parameters
    ----------
    folder : Path
    variant : str
        One of the set's variants; empty if it has none.
    as_published : bool
        Whether known faults of the labels are kept.

    Attributes
    ----------
    notes : list of str
        Sentences about what was found, left out and corrected.
    curves : pd.DataFrame or None
        Labels over time: `id`, `seconds` (where a sample of half a second starts in the clip) and one column
        per target, which the reader scales to 0 to 1.
    tables : list of Path
        Tables that were read.
    """

    def __init__(self, folder: Path, variant: str = "", as_published: bool = False):
        self.folder, self.variant, self.as_published = folder, variant, as_published
        self.notes: list[str] = []
        self.curves: pd.DataFrame | None = None
        self.tables: list[Path] = []

    def say(self, sentence: str) -> None:
        """Print a sentence, and keep it for the description of the set."""
        self.notes.append(sentence)
        print(sentence)

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        files = defaultdict(list)
        for path in sorted(self.folder / name for name, kind in walk(self.folder) if kind == "file"):
            files[_plain(path.name)].append(path)
        return files

    def find(self, *names: str) -> Path | None:
        """The file of the first of these names that is anywhere below the folder; the nearest of several.

        A name may have its folder before it, as in "split-0/test.tsv". Case and the difference of blanks,
        hyphens and underscores don't matter.
        """
        for wanted in map(_plain, names):
            named = self._files.get(wanted.rpartition("/")[2], [])
            if found := [path for path in named if f"/{_plain(path.as_posix())}".endswith(f"/{wanted}")]:
                return min(found, key=lambda path: len(path.parts))
        return None

    def table(self, *names: str, separator: str = ",", **options: Any) -> pd.DataFrame:
        """Read the table that `find` finds as text, with names and cells stripped of blanks.

        Rows without any text are left out.

        Parameters
        ----------
        names : str
            File names, the preferred one first.
        separator : str
        options
            For `pandas.read_csv`.

        Raises
        ------
        InputError
            When there is no such file, or it is no such table.
        """
        if (path := self.find(*names)) is None:
            held = first_five(sorted(child.name for child in self.folder.iterdir())) or "nothing"
            raise InputError(
                f"{self.folder} holds no {' or '.join(names)}, there or below (it holds: {held}). "
                f"Give the folder that the set was unpacked into."
            )
        self.tables.append(path)
        if "header" not in options:
            options.setdefault("index_col", False)  # rows may be longer than the header
        try:
            cells: pd.DataFrame = pd.read_csv(
                path, sep=separator, dtype=str, keep_default_na=False, **options
            )
        except (ValueError, OSError) as error:  # pandas' errors are ValueErrors
            raise InputError(f"{path} can't be read as a table: {error}. Download it again.") from None
        cells = cells.rename(columns=lambda name: str(name).strip()).apply(lambda column: column.str.strip())
        return cells[(cells != "").any(axis=1)]

    def audio(self, below: str = "") -> dict[str, str]:
        """Audio files relative to the folder, by names, names with their folder's, and whole paths.

        Parameters
        ----------
        below : str
            Pattern of the name of a folder to look in, the set's or one below. Case does not matter.

        Returns
        -------
        dict of str to str
            Names have no ending, no ".low" and, if they are numbers, no leading zeros: "7", "pop/7" and
            "audio/pop/0007.mp3" for ``audio/pop/0007.mp3``. Of several files of one name, the first is taken.
        """
        found: dict[str, str] = {}
        for name in self._recordings:
            *folders, file = name.split("/")
            if any(re.fullmatch(below or ".*", each, re.I) for each in (self.folder.name, *folders)):
                key = audio_key(re.sub(r"\.low$", "", os.path.splitext(file)[0]))
                for each in (key, "/".join([*folders[-1:], key]), name):
                    found.setdefault(each, name)
        return found

    @cached_property
    def _recordings(self) -> list[str]:
        return audio_below(self.folder)

    def keys(self, ids: Iterable[object], *folders: str) -> list[str]:
        """Keys of `audio` for ids: in the first of these folders that is there, or else in any folder.

        A folder of several sets may hold a ``2.mp3`` of each.
        """
        there = {key.rpartition("/")[0] for key in self.audio()}
        below = next((f"{folder}/" for folder in folders if folder in there), "")
        return [f"{below}{each}" for each in ids]


def audio_key(name: str) -> str:
    """A name as `Source.audio` spells it: numbers without leading zeros, other names as they are.

    Examples
    --------
    >>> audio_key("0007"), audio_key("000/000002"), audio_key("MT0004")
    ('7', '000/2', 'MT0004')
    """
    folder, slash, stem = name.rpartition("/")
    return folder + slash + (str(int(stem)) if re.fullmatch("[0-9]+", stem) else stem)


def _plain(name: str) -> str:
    return re.sub("[ _-]+", "-", name.casefold())


@dataclass(frozen=True)
class PublicSet:
    """A public data set, and how it is read.

    Attributes
    ----------
    title : str
        Its name in print.
    read : callable
        Takes a `Source` and returns a table that is indexed by the set's own ids. Its columns are the targets
        in the set's own scale, or `label`; and optionally `audio` (a key of `Source.audio`; by default the
        id), `group`, `split`, `start_seconds` and `end_seconds`. A clip without labels has NaN, one in no
        split too. Groups that differ by case or a leading "The" are one; an empty one is a clip's own.
    about : str
        Number of clips and labels, for a list.
    licence, citation, url : str
    scales : mapping of str to tuple of float
        Lowest and highest value of a target in the set's own scale; 0 and 1 by default.
    variants : tuple of str
        Choices that the set leaves to its user, such as several splits. The first is the default.
    corrects : bool
        Whether the reader corrects known faults of the labels, so that "as published" differs.
    """

    title: str
    read: Callable[[Source], pd.DataFrame]
    about: str
    licence: str
    citation: str
    url: str
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    variants: tuple[str, ...] = ()
    corrects: bool = False


def public_set(name: str) -> PublicSet:
    """The set of a name in `NAMES`.

    Raises
    ------
    InputError
        For another name.
    """
    if name not in NAMES:
        raise InputError(f"There is no reader of '{name}'; {nearest(name, NAMES)}")
    module = f"music_emotion.datasets.public.{re.sub('^4q$', 'quadrants', name)}"
    found: PublicSet = import_module(module).SET
    return found


def write_dataset(
    name: str, folder: Path, out: Path, variant: str | None = None, as_published: bool = False
) -> str:
    """Read a public data set, and write its table of clips for `music-emotion extract`.

    Writes `out`; beside it `card_of` it (source, corrections, scales, licence, citation) and, for a set with
    labels over time, ``<out>-curves.csv`` with `id`, `seconds` and the targets, as in `Source.curves`. For
    another set, an earlier file of that name is removed.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    folder : Path
        Where the set was unpacked, at any depth.
    out : Path
        CSV to write. Targets are scaled to 0 to 1.
    variant : str, optional
        One of the set's variants.
    as_published : bool, default False
        Keep known faults of the labels.

    Returns
    -------
    str
        Number of clips by split, licence and citation as text.

    Raises
    ------
    InputError
        When the folder does not hold the set, a table or a label is not as expected, there is no audio, or
        `out` is a folder or a table of the set.
    """
    known = public_set(name)
    if variant is not None and variant not in known.variants:
        raise InputError(
            f"{known.title} has no variant '{variant}'; it has {', '.join(known.variants) or 'none'}."
        )
    if as_published and not known.corrects:
        raise InputError(f"{known.title} is read as published anyway. Leave --as-published out.")
    if not folder.is_dir():
        raise InputError(f"The folder {folder} does not exist. Give the one that the set was unpacked into.")
    if out.is_dir():
        raise InputError(f"{out} is a folder. Give --out a table in it, such as {out / 'clips.csv'}.")
    source = Source(folder, variant or next(iter(known.variants), ""), as_published)
    try:
        clips = known.read(source).sort_index()
    except InputError:
        raise
    except (LookupError, TypeError, ValueError) as error:
        read = first_five(source.tables) or folder
        what = f"no column {error}" if isinstance(error, KeyError) else repr(error)
        problem = f"{read}: a table of {known.title} is not as its reader expects: {what}."
        raise InputError(f"{problem} Download it again.") from error
    if out.resolve() in [path.resolve() for path in source.tables]:
        raise InputError(f"{out} is a table of {known.title}. Give --out another name.")
    targets = [str(column) for column in clips if column not in (*OWN_COLUMNS, "audio")]
    if len(repeated := clips.index[clips.index.duplicated()].unique()):
        raise InputError(f"{folder}: {len(repeated)} ids occur more than once: {first_five(repeated)}.")
    if not pd.api.types.is_integer_dtype(clips.index):
        clips = clips.assign(id=range(1, len(clips) + 1))
        source.say("Ids are counted from 1, since the set's own are not numbers; paths tell which is which.")
    clips = _with_audio(source, clips)
    if "split" in clips and (n := int((outside := clips["split"].isna()).sum())):
        source.say(f"{n} clips are in no split and are left out: {first_five(clips.index[outside])}.")
        clips = clips[~outside]
    labelled = clips[["label"] if "label" in clips else targets].notna().all(axis=1)
    if n := int((~labelled).sum()):
        source.say(f"{n} clips have no label and are left out: {first_five(clips.index[~labelled])}.")
    clips = clips[labelled]
    if clips.empty:
        raise InputError(f"{folder}: no labelled clip of {known.title} has audio there.")
    scales = {target: known.scales.get(target, (0.0, 1.0)) for target in targets}
    for target, (low, high) in scales.items():
        if len(wrong := clips.index[~clips[target].between(low, high)]):
            problem = f"{len(wrong)} values of {target} are not {low:g} to {high:g}"
            raise InputError(
                f"{folder}: {problem}, of the clips {first_five(wrong)}. Download the labels again."
            )
        clips[target] = (clips[target] - low) / (high - low)
    clips = clips if "id" in clips else clips.assign(id=clips.index)
    if "group" in clips:
        names = clips["group"].astype(object).fillna("").astype(str).str.casefold()
        names = names.str.replace(r"^the\s+", "", regex=True)
        clips["group"] = names.where(names != "", "clip " + clips["id"].astype(str))
    counts = {split: int((clips["split"] == split).sum()) for split in SPLITS} if "split" in clips else {}
    file = out.with_name(f"{out.stem}-curves.csv")
    if source.curves is None:
        file.unlink(missing_ok=True)  # of another set
    else:
        curves = source.curves[source.curves["id"].isin(clips["id"])].sort_values(["id", "seconds"])
        right = curves[targets].ge(0).all(axis=1) & curves[targets].le(1).all(axis=1)
        if n := int((~right).sum()):
            source.say(f"{n} labels over time are empty or outside their scale, and are left out.")
        write_table(file, curves[right])
        source.say(f"{file}: {right.sum()} labels over time of {curves['id'][right].nunique()} clips.")
    write_table(out, clips[[*(c for c in OWN_COLUMNS if c in clips), *targets]])
    described = {key: getattr(known, key) for key in ("title", "licence", "citation", "url")}
    found = {"clips": len(clips), "splits": counts, "targets": targets, "scales": scales}
    write_json(
        card_of(out),
        {"name": name, **described, "source": str(folder), "variant": source.variant}
        | {"as_published": as_published, **found, "notes": source.notes},
    )
    said = ", ".join(f"{n} {split}" for split, n in counts.items()) or "no published split"
    return (
        f"{out}: {len(clips)} clips of {known.title} ({said}); "
        f"{'labels: ' + ', '.join(sorted(clips['label'].unique())) if 'label' in clips else ''}"
        f"{'targets: ' + ', '.join(targets) if targets else ''}.\n"
        f"Licence: {known.licence}\nCite: {known.citation}"
    )


def _with_audio(source: Source, clips: pd.DataFrame) -> pd.DataFrame:
    """Add absolute paths, and leave out and name clips without a file."""
    keys = clips["audio"] if "audio" in clips else clips.index.to_series().astype(str)
    names = keys.map(audio_key).map(source.audio())
    if n := int(names.isna().sum()):
        lost = first_five(keys[names.isna()])
        source.say(f"{n} of {len(clips)} clips have no audio file and are left out: {lost}.")
    clips = clips[names.notna()]
    real = source.folder.resolve()
    return clips.assign(path=[str(real / name) for name in names.dropna()])
