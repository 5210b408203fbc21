"""The command `music-emotion`: its table of subcommands, and the printing of errors."""

import errno
import io
import os
import re
import sys
from collections.abc import Callable
from functools import partial

import cyclopts
from cyclopts import Parameter

# Errors of printing to a closed terminal, or to a pipe whose reader has ended, as in `... | head`.
_CLOSED = {errno.EPIPE, errno.EIO, errno.EINVAL}  # Windows has the last

GROUPS = {
    "bench": "Measure speed, memory, the coverage of intervals, and an outside rival.",
    "embed": "Write one row of the pretrained ear's embeddings per clip.",
    "kaggle": "Package a bundle for Kaggle, and push it.",
    "show": "Draw clips, classes, learning curves, activations, confusion matrices and effects.",
    "statistics": "Write one row of named statistics per clip.",
}
# A module loads when its command runs, so that `--help` answers at once.
COMMANDS = {
    "dataset": ("commands.dataset:dataset", "Read a public data set's folder into a table of clips."),
    "extract": ("commands.audio:extract", "Turn audio into arrays of mel spectrograms and chroma."),
    "statistics audio": ("commands.audio:statistics_of_audio", "Statistics of audio files."),
    "statistics arrays": ("commands.audio:statistics_of_arrays", "Statistics of the competition's arrays."),
    "pretrain": ("commands.training:pretrain", "Train a network on genres; emotion networks start from it."),
    "train": ("commands.training:train", "Train all folds of an experiment and score it out of fold."),
    "study": ("commands.training:study", "Train an experiment in every setting of a grid or search."),
    "blend": ("commands.evaluation:blend", "Blend emotion runs by out-of-fold evidence; average genre runs."),
    "submit": ("commands.evaluation:submit", "Write a checked leaderboard submission and its card."),
    "compare": ("commands.evaluation:compare", "Compare two runs on the same clips, with intervals."),
    "report": ("commands.evaluation:report", "Write all runs and submissions to one page."),
    "ear": ("commands.ear:ear", "Get the pretrained networks that embeddings come from."),
    "embed audio": ("commands.ear:embed_files", "Embeddings of audio files."),
    "embed arrays": ("commands.ear:embed_layout", "Embeddings of the competition's arrays."),
    "pack": ("commands.evaluation:pack", "Pack the folds of a run into one small model for predict."),
    "predict": ("commands.predict:predict", "Predict valence, energy, danceability, genre of audio."),
    "export": ("commands.predict:export", "Write a model as an ONNX file for other programs."),
    "app": ("commands.predict:app", "Serve a page on this machine that predicts dropped or recorded songs."),
    "show features": ("commands.show:features", "Draw mel and chroma of clips."),
    "show classes": ("commands.show:classes", "Draw how many clips each genre has."),
    "show curves": ("commands.show:curves", "Draw the learning curves of runs."),
    "show activations": ("commands.show:activations", "Draw the first layers' response to a clip."),
    "show confusion": ("commands.show:confusion", "Draw the confusion matrices of genre runs."),
    "show why": ("commands.show:why", "Draw which seconds and bands of a song change its prediction."),
    "score": ("commands.dataset:score", "Score a model on other sets, also over time."),
    "demo": ("commands.demo:demo", "Run the whole pipeline on synthesised music."),
    "kaggle package": ("kaggle.bundle:package", "Write a Kaggle dataset and kernel."),
    "kaggle push": ("kaggle.push:push", "Upload a bundle, run its kernel, fetch and submit."),
    "bench extract": ("bench.extraction:extract", "Extraction beside librosa's calls."),
    "bench ear": ("bench.extraction:ear", "The pretrained ear beside plain PyTorch."),
    "bench vibenet": ("bench.rival:vibenet", "Predictions and features of the package vibenet."),
    "bench predict": ("bench.rival:predict", "Prediction beside the package vibenet."),
    "bench devices": ("bench.training:devices", "Time per epoch on CPU and GPU."),
    "bench train": ("bench.training:train", "Time to reach another experiment's score."),
    "bench memory": ("bench.training:memory", "Memory of training on a whole competition."),
    "bench coverage": ("bench.coverage:coverage", "How often intervals hold the truth."),
}


def main(*command: str) -> None:
    """Run the command line, or one of its subcommands with the remaining arguments.

    The exit status is 0 on success, 1 for wrong flags and 130 for Ctrl-C. It is 2 for an `InputError` or a
    full or read-only disk, which are printed as sentences. Printing never ends a command.
    """
    os.environ["MPLBACKEND"] = "agg"  # pictures are files, and a user's choice may not be installed
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # notebooks have another kind
            stream.reconfigure(errors="backslashreplace")
            for name in ("write", "flush"):
                setattr(stream, name, partial(_unless_closed, getattr(type(stream), name), stream))
    try:
        # shells leave ~ in --out=~/music as it is
        words = [re.sub("(?<==)~.*", lambda home: os.path.expanduser(home[0]), word) for word in sys.argv[1:]]
        known = {name.split()[0] for name in COMMANDS}
        if not command and words and words[0] not in known and not words[0].startswith("-"):
            from music_emotion.files import nearest

            _leave(f"error: There is no command '{words[0]}'; {nearest(words[0], known)} See --help.", 1)
        _app()([*command, *words])
    except cyclopts.CycloptsError as error:
        from pydantic import ValidationError

        from music_emotion.files import describe

        if isinstance(error.__cause__, ValidationError):
            _leave(f"error: {describe(error.__cause__, 'command line')}", 2)
        _leave(f"error: {error} See --help.", 1)
    except ValueError as error:
        from music_emotion.files import InputError

        if not isinstance(error, InputError):
            raise
        _leave(f"error: {error}", 2)
    except OSError as error:
        from music_emotion.failures import DISK_ERRORS

        if not error.filename and error.errno not in DISK_ERRORS:
            raise
        name = re.sub(r"\.writing-[0-9a-f]+-", "", str(error.filename or ""))  # the name it will have
        place = f" ({name})" if name else ""
        remedy = "Free some space, or give a place that can be written to; what was finished is kept."
        _leave(f"error: {error.strerror}{place}. {remedy}", 2)
    except KeyboardInterrupt as interrupt:
        kept = str(interrupt) or "what was finished is kept"
        _leave(f"interrupted: {kept}; the same command goes on.", 130)


def _app() -> cyclopts.App:
    from music_emotion import __version__

    app = cyclopts.App(
        "music-emotion",
        version=f"{__version__}\nmodel in the package: for research and personal use (weights/LICENSE)",
        help="Predict how music feels and its genre; train, evaluate and submit such models.",
        help_format="plaintext",
        default_parameter=Parameter(consume_multiple=True, negative_iterable=""),
        suppress_keyboard_interrupt=False,
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
    )
    for name, summary in GROUPS.items():
        app.command(cyclopts.App(name, help=summary))
    for words, (function, summary) in COMMANDS.items():
        group, _, name = words.rpartition(" ")
        (app[group] if group else app).command(f"music_emotion.{function}", name=name, help=summary)
    return app


def _unless_closed(method: Callable[..., object], stream: io.TextIOWrapper, *text: str) -> None:
    """Write to a stream or flush it; once its terminal or pipe is closed, drop what is printed."""
    try:
        method(stream, *text)
    except OSError as error:
        if error.errno not in _CLOSED:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _leave(sentence: str, status: int) -> None:
    from music_emotion.files import printable

    print(printable(sentence), file=sys.stderr)
    sys.exit(status)
