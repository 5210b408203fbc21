"""Commands that get the pretrained ear, and embed clips with it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from cyclopts import Parameter

from music_emotion.commands import Share
from music_emotion.config import Task
from music_emotion.datasets.clip_table import Windows, read_clips
from music_emotion.datasets.layout import Split, find_set
from music_emotion.datasets.parallel import Workers
from music_emotion.files import InputError, first_five, in_turn, remove_unfinished
from music_emotion.models.ear import FILES, convert_wheel, ear_folder, fetch_wheel, read_ear
from music_emotion.models.embedding_table import array_clips, cut_spans, embed_clips, make_hearing


@Parameter(name="*")
@dataclass(frozen=True)
class EmbedFlags:
    """Flags for embedding clips.

    Attributes
    ----------
    ear
        Files of the pretrained networks; by default musicnn-msd.safetensors, which music-emotion ear
        writes. For arrays also models of runs, whose trunk's features are written. Several give families
        beside each other.
    tags
        Also write the probabilities of the networks' tags.
    span
        Write one row for every span of this length in seconds, in place of one for every clip: what
        distil.spans learns from. Row 1004003 is the fourth span of clip 1004.
    span_hop
        Seconds from the start of one span to the next; by default the span's length.
    jobs
        Worker processes; -1 for one per core, 1 for the command itself alone.
    scheduler
        Address of a Dask scheduler, tcp://..., whose workers then do the work. Clips, networks and
        output must have the same paths on all of them.
    max_failed
        Largest share of clips that may fail, 0 to 1.
    """

    ear: tuple[Path, ...] = ()
    tags: bool = False
    span: float | None = None
    span_hop: float | None = None
    jobs: int = -1
    scheduler: str | None = None
    max_failed: Share = 0.01


def ear(*, wheel: Path | None = None, out: Path | None = None) -> None:
    """Write the pretrained networks that embeddings come from, with their licence, unless they are there.

    Parameters
    ----------
    wheel
        The file musicnn-0.1.0-py3-none-any.whl that holds the weights; by default pip downloads it (29 MB).
    out
        Folder for the files; by default the user's cache, where other commands find them.
    """
    folder = out or ear_folder()
    with in_turn(folder, "gets the ear"):
        remove_unfinished(folder)
        try:
            cards = [read_ear(folder / name)[1] for name in FILES]
            print("The files are there already:")
        except InputError:  # missing or damaged
            with tempfile.TemporaryDirectory() as place:
                convert_wheel(wheel or fetch_wheel(Path(place)), folder)
            cards = [read_ear(folder / name)[1] for name in FILES]
    for name, card in zip(FILES, cards, strict=True):
        print(f"{folder / name}: {len(card['tags'])} tags ({first_five(card['tags'])})")
    print(f"\nCite {card['paper']}\n\nLicence of these weights: {card['licence']}")


def embed_files(
    clips: Path,
    *,
    out: Path,
    audio: Path | None = None,
    hop: float = 1.5,
    flags: EmbedFlags = EmbedFlags(),
) -> None:
    """Write one row of embeddings for every clip of a table or folder of audio.

    Parameters
    ----------
    clips
        Table or folder of audio, as for extract.
    out
        CSV to write: one row per clip with its id, its source and the embeddings.
    audio
        Folder of <id>.<ending> files for a table without paths.
    hop
        Seconds from one window of 3 s to the next.
    flags
        How clips are embedded.
    """
    _embed(read_clips(clips, audio), out, hop, (), flags)


def embed_layout(
    root: Path,
    *,
    out: Path,
    task: Task = "emotion",
    split: Split = "train",
    hop: float = 3.0,
    level: tuple[float, ...] = (22.0,),
    flags: EmbedFlags = EmbedFlags(),
) -> None:
    """Write one row of embeddings for every full-rate array of the competition's layout.

    Parameters
    ----------
    root
        Folder that holds the layout.
    out
        CSV to write: one row per clip with its id, its array and the embeddings.
    task
        Emotion or genre set.
    split
        Training or test split.
    hop
        Seconds from one window of 3 s to the next.
    level
        Level of the clips in dB, which arrays have lost. Embeddings of several are averaged.
    flags
        How clips are embedded.
    """
    _embed(array_clips(find_set(root, task), split), out, hop, level, flags)


def _embed(clips: pd.DataFrame, out: Path, hop: float, levels: tuple[float, ...], flags: EmbedFlags) -> None:
    ears = flags.ear or (ear_folder() / FILES[0],)
    if flags.span is not None or flags.span_hop is not None:
        clips = cut_spans(clips, Windows(flags.span, flags.span_hop))
    hearing, workers = make_hearing(ears, hop, levels, flags.tags), Workers(flags.jobs, flags.scheduler)
    print(embed_clips(clips, out, ears, hearing, workers, flags.max_failed))
    print(f"The embeddings are in {out}.")
