"""Load the clips of one split from the competition's layout, a table of statistics, or windowed features."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import filter as fitting
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from music_emotion.audio.settings import FeatureSettings
from music_emotion.config import DataSection, DistilSection, Task, Unlabelled
from music_emotion.datasets.labels import map_genres, read_genres, read_splits, read_targets
from music_emotion.datasets.layout import SPLIT_FILE, Split, find_set, leave_out, read_settings, split_files
from music_emotion.datasets.parallel import SOURCE_COLUMNS
from music_emotion.datasets.store import JoinedFrames, Store, open_store, read_npy
from music_emotion.files import GROUP, InputError, first_five, nearest, regular_file

SOURCES: dict[str, tuple[Task, Split]] = {
    "train": ("emotion", "train"),
    "test": ("emotion", "test"),
    "genre-train": ("genre", "train"),
    "genre-test": ("genre", "test"),
}
_NOT_STATISTICS = (*SOURCE_COLUMNS, "reason")
_LEAST_VARYING = 0.1  # share of clips whose value differs from the usual, such as the 0 of a rectifier
_SPAN_COLUMNS = ("start_seconds", "end_seconds")
SPANS = 1000  # the id of a span is that of its clip times this, plus its number
_LEAST_DEVIATION = 1e-5  # of a column, relative to its largest value; less is the rounding of a constant


@dataclass(frozen=True)
class ClipSet:
    """Clips with their arrays and labels.

    Attributes
    ----------
    ids : np.ndarray [shape=(n,)], integer
        Ids of the clips, ascending.
    store : Store
        Holds the arrays of these clips and possibly of others.
    outputs : tuple of str
        Names of the targets, or of the classes in alphabetical order.
    values : np.ndarray [shape=(n, n_outputs)], float32
        Target values or one-hot classes; NaN where labels are unknown.
    table : pd.DataFrame or None
        Named values of these clips, and possibly of others, indexed by `Id`: `data.statistics` and
        `data.embeddings`.
    origin : pd.DataFrame or None
        For joined sets: number of the `set` and `id` there of these clips, and possibly of others, indexed by
        `Id`.
    """

    ids: np.ndarray
    store: Store
    outputs: tuple[str, ...]
    values: np.ndarray
    table: pd.DataFrame | None = None
    origin: pd.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def unlabelled(cls, store: Store, outputs: tuple[str, ...] = ()) -> "ClipSet":
        """Make a set of all clips of a store. Their values are NaN."""
        ids = np.sort(store.index.index.to_numpy())
        return cls(ids, store, outputs, np.full((len(ids), len(outputs)), np.nan, np.float32))

    def select(self, chosen: np.ndarray) -> "ClipSet":
        """Select clips by positions or by a boolean mask."""
        return replace(self, ids=self.ids[chosen], values=self.values[chosen])

    @property
    def truth(self) -> pd.DataFrame:
        """Values as a table with the columns and index of a prediction table."""
        return pd.DataFrame(self.values, pd.Index(self.ids, name="Id"), list(self.outputs), dtype=np.float64)

    @property
    def has_labels(self) -> bool:
        """Whether every clip's values are known."""
        return bool(np.isfinite(self.values).all())


def load_clip_set(data: DataSection, task: Task, split: Split, outputs: tuple[str, ...] = ()) -> ClipSet:
    """Load one split of an experiment's data. Check it, and pack its arrays if needed.

    Parameters
    ----------
    data : DataSection
    task : {"emotion", "genre"}
    split : {"train", "test"}
    outputs : tuple of str
        Targets or classes of the training split. Pass them to load the test split.

    Returns
    -------
    ClipSet
        With `data.statistics`, a clip has one frame, and its rows are the statistics. With `data.more`, the
        training split is that of all sets, and labels that a set lacks are NaN.

    Raises
    ------
    InputError
        When a folder or file is missing or damaged, or when the share of clips without arrays or labels
        exceeds ``data.allow_bad_share``.
    """
    if data.windows is not None:
        return load_windows(data, split, outputs)
    if data.more and task == "emotion" and split == "train":
        return _load_several(data)
    is_table = data.statistics is not None
    folder = find_set(Path(data.root), task, "full" if is_table else data.rate)
    files = None if is_table else split_files(folder, split)
    tables, arrays = tables_of(data, split, task), None if files is None else pd.Index(files.arrays)
    if is_table and "{split}" not in str(data.statistics) and (folder / SPLIT_FILE).exists():
        parts = read_splits(folder / SPLIT_FILE)  # the table may be of all clips
        arrays = parts.index[(parts == "test") == (split == "test")]
    table = read_tables(tables, data.columns, arrays, data.allow_bad_share)
    known = table.index
    label_file, labels = folder / f"{split}_labels.txt", None
    if label_file.exists():
        is_genre, targets = task == "genre", () if data.more else outputs or data.targets
        raw = read_genres(label_file) if is_genre else read_targets(label_file, targets, data.target_range)
        if data.more and isinstance(raw, pd.DataFrame):  # the set may lack targets of the others
            raw = raw.reindex(columns=list(outputs or raw))
        _check_match(label_file, raw.index, known, data.allow_bad_share)
        labels = _one_hot(raw, data, outputs, label_file) if isinstance(raw, pd.Series) else raw
        _check_names(label_file, labels, ("Id", "truth") if is_genre else ("Id", "mean", GROUP))
    elif split == "train":
        raise InputError(f"{folder} has no train_labels.txt. Check that it was unpacked whole.")
    if files is not None:
        store = open_store(files, Path(data.stores), data.allow_bad_share)
    else:
        store = Store.in_memory(table.to_numpy(), np.ones(len(known), int), known, is_fused=False)
    if labels is None:
        clips = ClipSet.unlabelled(store, outputs)
    else:
        labels = labels[labels.index.isin(store.index.index)].sort_index()
        values = labels.to_numpy(np.float32)
        clips = ClipSet(labels.index.to_numpy(), store, tuple(labels.columns), values)
    return replace(clips.select(np.isin(clips.ids, known)), table=table if tables else None)


def load_test_set(data: DataSection, task: Task, clips: ClipSet) -> ClipSet:
    """Load the test split of an experiment's data.

    Parameters
    ----------
    data : DataSection
    task : {"emotion", "genre"}
    clips : ClipSet
        The training split.

    Returns
    -------
    ClipSet
        Empty if there is no test split.

    Raises
    ------
    InputError
        As `load_clip_set`.
    """
    if data.statistics is not None:
        has_test = "{split}" in data.statistics and tables_of(data, "test", task)[""].exists()
    else:
        has_test = (find_set(Path(data.root), task, data.rate) / "test").is_dir()
    if has_test:
        test = load_clip_set(data, task, "test", clips.outputs)
        if data.statistics is None or test.table is None or clips.table is None:
            return test
        table = in_order(test.table, clips.table, data)
        lengths = np.ones(len(table), int)
        return replace(test, store=Store.in_memory(table.to_numpy(), lengths, table.index, is_fused=False))
    print(f"{data.root} has no test split, so clips are predicted in validation alone.")
    return clips.select(np.zeros(0, np.int64))


def load_unlabelled(
    data: DataSection, kinds: Sequence[Unlabelled], outputs: tuple[str, ...]
) -> dict[str, ClipSet]:
    """Load clips without targets, for pseudo-labels.

    Parameters
    ----------
    data : DataSection
    kinds : sequence of {"test", "genre"}
        "test" loads the test split of the emotion set. "genre" loads all clips of the genre set, including
        classes that ``data.genres`` leaves out.
    outputs : tuple of str
        The targets.

    Returns
    -------
    dict of str to ClipSet
        Keys are "test", "genre-train" and, if that split exists, "genre-test".

    Raises
    ------
    InputError
        When a set is missing, or arrays are unusable.
    """
    sets = {}
    for name in [name for name in SOURCES if name.partition("-")[0] in kinds]:
        task, split = SOURCES[name]
        folder = find_set(Path(data.root), task, data.rate)
        if name != "genre-test" or (folder / split).is_dir():
            store = open_store(split_files(folder, split), Path(data.stores), data.allow_bad_share)
            sets[name] = ClipSet.unlabelled(store, outputs)
    return sets


def load_embedded(data: DataSection, distil: DistilSection) -> ClipSet:
    """Load arrays with their embeddings as values, for distillation.

    Parameters
    ----------
    data : DataSection
    distil : DistilSection
        ``tables`` and ``columns`` are the embeddings. With ``labels``, only the training split of the emotion
        set is loaded; otherwise every split of both sets that has a table.

    Returns
    -------
    ClipSet
        Columns that hardly vary are left out.

    Raises
    ------
    InputError
        When there is no table, a clip has no row, or arrays are unusable.
    """
    embedded = data.model_copy(update={"statistics": None, "embeddings": distil.tables})
    found: dict[tuple[Path, ...], tuple[Task, Split]] = {}
    for task, split in list(SOURCES.values())[: 1 if distil.labels else None]:
        paths = tuple(tables_of(embedded, split, task).values())
        if distil.labels or all(path.exists() for path in paths):
            found.setdefault(paths, (task, split))
    if not found:
        raise InputError(f"{first_five(distil.tables)}: no such tables. Make them with music-emotion embed.")
    sets, tables = [], []
    for task, split in found.values():
        files = split_files(find_set(Path(data.root), task, data.rate), split)
        sets.append(ClipSet.unlabelled(open_store(files, Path(data.stores), data.allow_bad_share)))
        named = tables_of(embedded, split, task)
        if distil.spans:
            sets[-1] = _spans(sets[-1], next(iter(named.values())))
        ids = sets[-1].ids
        tables.append(read_tables(named, distil.columns, pd.Index(ids)).loc[ids])
    columns = tables[0].columns
    for paths, table in zip(found, tables, strict=True):
        if len(lost := columns.difference(table.columns)):
            raise InputError(
                f"{first_five(paths)}: columns of the first table are missing: {first_five(lost)}."
            )
    values = np.concatenate([table[columns].to_numpy() for table in tables])
    varies = values.std(axis=0) > _LEAST_DEVIATION * np.abs(values).max(axis=0)
    varies &= (values != np.median(values, axis=0)).mean(axis=0) > _LEAST_VARYING
    counted = (
        f"{len(table)} clips of {' '.join(part)}" for table, part in zip(tables, found.values(), strict=True)
    )
    print(f"distilled: {varies.sum()} columns, of {', '.join(counted)}.")
    whole = join(sets)
    return replace(whole, outputs=tuple(columns[varies]), values=values[:, varies])


def _spans(clips: ClipSet, path: Path) -> ClipSet:
    """Make a clip of each span in a table, with the id of its row, from the arrays of whole clips."""
    rate = FeatureSettings().sample_rate_hz / FeatureSettings().hop_length
    spans = _read_table(path, _SPAN_COLUMNS)
    spans = spans[(spans.index // SPANS).isin(clips.ids)]  # as in other tables, other clips may be there
    if spans.empty or not {*_SPAN_COLUMNS} <= {*spans}:
        raise InputError(f"{path} has no spans of these clips. Make it with music-emotion embed --span.")
    index = clips.store.index.loc[spans.index // SPANS].set_axis(spans.index)
    first, last = (np.rint(spans[name] * rate).astype(int) for name in _SPAN_COLUMNS)
    last = np.minimum(last, index["length"])
    index = pd.DataFrame({"start": index["start"] + first, "length": last - first}).sort_index()
    return ClipSet.unlabelled(replace(clips.store, index=index))


def join(sets: Sequence[ClipSet]) -> ClipSet:
    """Join clips of several sets without copying their arrays.

    Parameters
    ----------
    sets : sequence of ClipSet
        Sets with the same outputs and rows. An id may occur in several sets.

    Returns
    -------
    ClipSet
        Clips in the given order, with their `origin`. The first set keeps its ids. The ids of each later set
        are shifted by thousands above the ids of the sets before it.
    """
    ids: list[np.ndarray] = []
    indexes, n_frames = [], 0
    for clips in sets:
        shift = max(int(ids[-1].max()) + 1 - int(clips.ids.min()), 0) if ids else 0
        shift = -(-shift // SPANS) * SPANS  # so that spans keep their number
        ids.append(clips.ids + shift)
        index = clips.store.index.loc[clips.ids].set_axis(pd.Index(ids[-1], name="Id"))
        indexes.append(index.assign(start=index["start"] + n_frames))
        n_frames += clips.store.frames.shape[0]
    frames = JoinedFrames([clips.store.frames for clips in sets])
    store = Store(frames, pd.concat(indexes), sets[0].store.is_fused)
    numbers = np.repeat(np.arange(len(sets)), [len(clips) for clips in sets])
    places = {"set": numbers, "id": np.concatenate([clips.ids for clips in sets])}
    origin = pd.DataFrame(places, store.index.index)
    values = np.concatenate([clips.values for clips in sets])
    return ClipSet(np.concatenate(ids), store, sets[0].outputs, values, origin=origin)


def _load_several(data: DataSection) -> ClipSet:
    """Load and join the training splits of several emotion sets, with targets on the scale of the first."""
    roots, sets, tables = (data.root, *data.more), list[ClipSet](), list[pd.DataFrame]()
    features = [asdict(read_settings(find_set(Path(root), "emotion", data.rate))) for root in roots]
    for number, (root, found) in enumerate(zip(roots, features, strict=True)):
        if found != features[0]:
            differ = f"{root} has arrays of {found}, but {data.root} of {features[0]}"
            raise InputError(f"{differ}. Extract both with the same settings.")
        alone = data.model_copy(update={"root": root, "more": (), "targets": ()})
        sets.append(load_clip_set(alone, "emotion", "train"))
        tables.append(sets[-1].truth.rename(columns=data.map if number else {}))
        if tables[-1].columns.has_duplicates:
            named = first_five(tables[-1].columns)
            raise InputError(f"data.map gives two targets of {root} one name: {named}. Correct it.")
    others = {name for clips in sets[1:] for name in clips.outputs}
    known = tuple(dict.fromkeys(str(name) for table in tables for name in table))
    for key, asked, held in (("map", set(data.map), others), ("targets", set(data.targets), known)):
        if lacking := sorted(asked.difference(held)):
            raise InputError(f"data.{key}: no set has {first_five(lacking)}; {nearest(lacking[0], held)}")
    outputs, first, said = data.targets or known, dict[str, np.ndarray](), list[str]()
    for number, (root, table) in enumerate(zip(roots, tables, strict=True)):
        taken = [name for name in outputs if name in table]
        if not taken:
            raise InputError(f"{root} has no target of {', '.join(outputs)}. Leave it out of data.more.")
        for name in taken:
            own = table[name].to_numpy()
            if np.ptp(own) == 0:
                raise InputError(f"{root}: all labels of {name} are the same. Leave it out of data.more.")
            of_first = first.setdefault(name, own)
            if own is not of_first:  # ranks in place of values score the same; see LOG.md, 2026-11-30
                table[name] = (own - own.mean()) / own.std() * of_first.std() + of_first.mean()
        called = zip(sets[number].outputs, table, strict=True)
        pairs = [(own, name) for own, name in called if name in outputs]
        said.append(", ".join(name if name == own else f"{own} as {name}" for own, name in pairs))
        values = table.reindex(columns=list(outputs)).to_numpy(np.float32)
        sets[number] = replace(sets[number], outputs=outputs, values=values)
    joined = join(sets)
    borders = np.cumsum([len(clips) for clips in sets])[:-1]
    for root, ids, targets in zip(roots, np.split(joined.ids, borders), said, strict=True):
        print(f"{root}: {len(ids)} clips, ids {ids[0]} to {ids[-1]}, of {targets}.")
    return joined


def _one_hot(raw: pd.Series, data: DataSection, outputs: tuple[str, ...], path: Path) -> pd.DataFrame:
    """Map raw genres to classes and encode them one-hot."""
    genres = map_genres(raw, data.genres, str(path))
    classes = outputs or tuple(sorted(set(genres)))
    unknown = sorted(set(genres) - set(classes))
    if unknown:
        raise InputError(f"{path}: no training clip has the classes {first_five(unknown)}.")
    return pd.DataFrame({name: (genres == name).astype(np.float32) for name in classes}, genres.index)


def _check_names(path: Path, labels: pd.DataFrame, taken: tuple[str, ...]) -> None:
    """Raise `InputError` for targets or classes that can't be columns of predictions and scores."""
    wrong = [
        name for name in map(str, labels) if name in ("", *taken) or re.search(r"^\s|[\0\r\n]|\s$", name)
    ]
    if wrong:
        named = f"{', '.join(taken[:-1])} and {taken[-1]}"
        rule = f"Give other names than {named}, without line breaks, and blanks only inside."
        raise InputError(f"{path}: {first_five(map(repr, wrong))} can't name a target or class. {rule}")


def _check_match(path: Path, listed: pd.Index, known: pd.Index, allow_bad_share: float) -> None:
    """Raise `InputError` if too many clips have only a label or only an array."""
    fileless, unlabelled = listed.difference(known), known.difference(listed)
    n_bad, n = len(fileless) + len(unlabelled), len(listed.union(known))
    sentence = (
        f"{path}: {len(fileless)} ids have no array ({first_five(fileless) or 'none'}) and "
        f"{len(unlabelled)} arrays have no label ({first_five(unlabelled) or 'none'})"
    )
    leave_out(n_bad, n, allow_bad_share, sentence, "Complete the set")


def tables_of(data: DataSection, split: Split, task: Task = "emotion") -> dict[str, Path]:
    """Tables of a split of one set, by the family of their columns without a colon."""
    named = {"": data.statistics} if data.statistics is not None else {}
    named |= {f"table{number}": table for number, table in enumerate(data.embeddings, start=1)}
    return {family: Path(in_table_path(table, split, task)) for family, table in named.items()}


def in_order(table: pd.DataFrame, first: pd.DataFrame, data: DataSection) -> pd.DataFrame:
    """Select the columns of the training split's table, which another split's may have in another order.

    Raises
    ------
    InputError
        When it lacks a column, or was made with other settings.
    """
    named = first_five(tables_of(data, "test").values())
    if len(lost := first.columns.difference(table.columns)):
        raise InputError(
            f"{named}: {len(lost)} columns of the training split are missing ({first_five(lost)})."
        )
    if table.attrs.get("settings") != first.attrs.get("settings"):
        raise InputError(
            f"{named} was made with other settings than the table of the training split. Make both with "
            f"the same flags."
        )
    return table[first.columns]


def in_table_path(path: str, split: Split, task: Task) -> str:
    """Put the names of a split and a set in place of "{split}" and "{task}"."""
    return path.replace("{split}", split).replace("{task}", task)


def read_tables(
    tables: Mapping[str, Path],
    columns: tuple[str, ...] = (),
    ids: pd.Index | None = None,
    allow_bad_share: float = 0.0,
) -> pd.DataFrame:
    """Read tables of statistics and embeddings, and join them by id. Clips that failed are left out.

    Parameters
    ----------
    tables : mapping of str to Path
        Tables of `music-emotion statistics` and `embed`, or others with a column `id`. The key is the family
        of columns whose names have none before a colon. In the joined table, it stands before their names.
    columns : tuple of str
        Columns to keep, as glob patterns like ``mfcc*``; all when empty.
    ids : pd.Index, optional
        Ids of the clips; by default those of the first table. Rows of other clips are ignored.
    allow_bad_share : float
        Largest accepted share, 0 to 1, of clips without a row in one of the tables. They are left out.

    Returns
    -------
    pd.DataFrame, float32
        One column per statistic, indexed by `Id`. Its attribute ``attrs["settings"]`` tells how each table
        was made.

    Raises
    ------
    InputError
        When a file is missing or not such a table, two tables have the same column, too many clips have no
        row, a pattern matches no column, or values are not finite.
    """
    parts = [] if ids is None else [pd.DataFrame(index=ids)]
    for family, path in tables.items():
        part = _read_table(path)
        if family:
            part.columns = [name if ":" in name else f"{family}:{name}" for name in part.columns.map(str)]
        parts.append(part)
        missing, n = parts[0].index.difference(part.index), len(parts[0])
        sentence = f"{path}: {len(missing)} of {n} clips have no row ({first_five(missing)})"
        leave_out(len(missing), n, allow_bad_share, sentence, "Complete the table")
    whole, named = pd.concat(parts, axis=1, join="inner"), first_five(tables.values())
    if whole.columns.has_duplicates:
        twice = first_five(whole.columns[whole.columns.duplicated()])
        raise InputError(f"{named} have the same columns: {twice}. Name the families differently.")
    idle = [pattern for pattern in columns if tables and not fitting(whole.columns, pattern)]
    if idle:
        raise InputError(f"{named} has no columns like {first_five(idle)}. Correct data.columns.")
    chosen = {name for pattern in columns or ["*"] for name in fitting(whole.columns, pattern)}
    kept = whole[[name for name in whole if name in chosen]]
    numbers = kept.apply(pd.to_numeric, errors="coerce").astype(np.float32)
    numbers.attrs["settings"] = [part.attrs.get("settings") for part in parts]
    bad = numbers.columns[~np.isfinite(numbers.to_numpy()).all(axis=0)]
    if len(bad):
        problem = f"{named}: values that are not finite numbers in {first_five(bad)}."
        raise InputError(f"{problem} Make the table again, or choose other columns with data.columns.")
    return numbers


def _read_table(path: Path, kept: Sequence[str] = ()) -> pd.DataFrame:
    remedy = "Make it with music-emotion statistics or embed."
    regular_file(path, "The table", remedy)
    try:
        # with rows longer than the header, pandas would take the first cells for an index and shift the rest
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            table = pd.read_csv(path, index_col=False)
    except (ValueError, pd.errors.ParserWarning) as error:
        raise InputError(f"{path} is not a table of statistics: {error}.") from None
    if "id" not in table or table["id"].duplicated().any():
        raise InputError(f"{path} has no column 'id' with one row for each clip. {remedy}")
    if "reason" in table:
        table = table[table["reason"].isna()]
    known = table.set_index(table["id"].rename("Id"))
    known = known.drop(columns=[name for name in _NOT_STATISTICS if name not in kept], errors="ignore")
    known.attrs["settings"] = sorted(set(table["settings"].astype(str))) if "settings" in table else []
    return known


def load_windows(
    data: DataSection, split: Literal["train", "val", "test"], outputs: tuple[str, ...] = ()
) -> ClipSet:
    """Load precomputed features of windows.

    Parameters
    ----------
    data : DataSection
        ``windows`` is a folder whose name contains "{split}". The folder of a split holds `X.npy` and
        `labels.npy` [shape=(n,)]. `X.npy` has one feature vector per window [shape=(n, n_rows)], or frames
        [shape=(n, n_frames, n_rows)]. ``genres`` maps the labels to classes.
    split : {"train", "val", "test"}
    outputs : tuple of str
        Classes of the training split. Pass them to load another split.

    Returns
    -------
    ClipSet
        The ids count from 0. A feature vector is a window of one frame. The features stay on disk.

    Raises
    ------
    InputError
        When a file is missing or damaged, has another shape or values that are not finite, or a class is not
        in `outputs`.
    """
    folder = data.windows or ""
    if "{split}" not in folder:
        raise InputError(f"data.windows is '{data.windows}'. Put {{split}} where train, val and test differ.")
    place = Path(folder.replace("{split}", split))
    paths = place / "X.npy", place / "labels.npy"
    for path in paths:
        regular_file(path, remedy="Correct data.windows; {split} stands for a split.")
    features, labels = read_npy(paths[0], mmap_mode="r"), read_npy(paths[1])
    wrong = "{} has shape {} of {}; expected {}.".format
    if features.dtype.kind != "f" or features.ndim not in {2, 3} or 0 in features.shape:
        expected = "floats of shape (windows, features) or (windows, frames, rows)"
        raise InputError(wrong(paths[0], features.shape, features.dtype, expected))
    if labels.ndim != 1 or labels.dtype.kind not in "USiu":
        raise InputError(wrong(paths[1], labels.shape, labels.dtype, "one name or number per window"))
    if len(features) != len(labels):
        raise InputError(f"{place}: X.npy has {len(features)} windows, but labels.npy {len(labels)} labels.")
    broken = [number for number, window in enumerate(features) if not np.isfinite(window).all()]
    if broken:
        problem = f"{paths[0]}: {len(broken)} windows have values that are not finite"
        raise InputError(f"{problem}: {first_five(broken)}. Leave them out of X.npy and labels.npy.")
    names = np.char.decode(labels) if labels.dtype.kind == "S" else labels.astype(str)
    values = _one_hot(pd.Series(names), data, outputs, paths[1])
    _check_names(paths[1], values, ("Id", "truth"))
    frames = features.reshape(-1, features.shape[-1])
    store = Store.in_memory(frames, np.full(len(labels), len(frames) // len(labels)), is_fused=False)
    return ClipSet(values.index.to_numpy(), store, tuple(values.columns), values.to_numpy())
