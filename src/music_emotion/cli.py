"""The command `music-emotion`: its subcommands, experiment files under flags, and errors as sentences."""

import errno
import sys
from typing import Any, get_args

import cyclopts
from cyclopts import Parameter

# What a full, read-only or misused disk answers. `music_emotion.files` says what is kept.
_DISK_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT),  # a file in place of a folder, or the reverse
    *(errno.EFBIG, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP),
}

# Modules load when their command runs, so that `--help` answers at once.
_COMMANDS = {
    "extract": ("extraction:extract", "Turn audio into arrays of mel spectrograms and chroma."),
    "pretrain": ("training:pretrain", "Train a network on genres; emotion networks start from it."),
    "train": ("training:train", "Train all folds of an experiment and score it out of fold."),
    "blend": ("evaluation:blend", "Blend emotion runs by out-of-fold evidence; average genre runs."),
    "submit": ("evaluation:submit", "Write a checked leaderboard submission and its card."),
    "compare": ("evaluation:compare", "Compare two runs on the same clips, with intervals."),
    "report": ("evaluation:report", "Write all runs and submissions to one page."),
    "study": ("training:study", "Train an experiment in every setting of a grid or search."),
    "predict": ("predict:predict", "Predict genre, valence, energy and danceability of audio files."),
    "demo": ("demo:demo", "Run the whole pipeline on synthesised music."),
}
_GROUPS = {
    "statistics": (
        "Write one row of named statistics per clip.",
        {
            "audio": ("extraction:statistics_of_audio", "Statistics of audio files."),
            "arrays": ("extraction:statistics_of_arrays", "Statistics of the competition's arrays."),
        },
    ),
    "show": (
        "Draw clips, classes, learning curves, activations and confusion matrices.",
        {
            "features": ("show:features", "Draw mel and chroma of clips."),
            "classes": ("show:classes", "Draw how many clips each genre has."),
            "curves": ("show:curves", "Draw the learning curves of runs."),
            "activations": ("show:activations", "Draw the first layers' response to a clip."),
            "confusion": ("show:confusion", "Draw the confusion matrices of genre runs."),
        },
    ),
    "kaggle": (
        "Package a bundle for Kaggle, and push it.",
        {
            "package": ("music_emotion.kaggle.bundle:package", "Write a Kaggle dataset and kernel."),
            "push": ("music_emotion.kaggle.push:push", "Upload a bundle, run its kernel, fetch and submit."),
        },
    ),
    "bench": (
        "Measure speed, memory and the coverage of intervals.",
        {
            "extract": ("music_emotion.bench.extraction:extract", "Extraction beside librosa's calls."),
            "devices": ("music_emotion.bench.training:devices", "Time per epoch on CPU and GPU."),
            "train": ("music_emotion.bench.training:train", "Time to reach another experiment's score."),
            "memory": ("music_emotion.bench.memory:memory", "Memory of training on a whole competition."),
            "coverage": ("music_emotion.bench.coverage:coverage", "How often intervals hold the truth."),
        },
    ),
}


def main(*command: str) -> None:
    """Run the command line, or one of its subcommands with the remaining arguments.

    Exit status 0 on success, 1 for wrong flags, 2 for an `InputError` or a full or read-only disk
    (printed as a sentence), 130 for Ctrl-C.
    """
    try:
        _app()([*command, *sys.argv[1:]])
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
        if error.errno not in _DISK_ERRORS:
            raise
        place = f" ({error.filename})" if error.filename else ""
        _leave(
            f"error: {error.strerror}{place}. Free some space, or give a place that can be written to; "
            f"what was finished is kept.",
            2,
        )
    except KeyboardInterrupt as interrupt:
        kept = str(interrupt) or "what was finished is kept"
        _leave(f"interrupted: {kept}; the same command goes on.", 130)


def _app() -> cyclopts.App:
    from music_emotion import __version__

    app = cyclopts.App(
        "music-emotion",
        version=__version__,
        help="Predict how music feels and its genre; train, evaluate and submit such models.",
        help_format="plaintext",
        config=_read_experiment_file,
        default_parameter=Parameter(consume_multiple=True, negative_iterable=""),
        suppress_keyboard_interrupt=False,
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
    )
    for name, (summary, commands) in _GROUPS.items():
        group = cyclopts.App(name, help=summary)
        _register(group, commands)
        app.command(group)
    _register(app, _COMMANDS)
    return app


def _register(app: cyclopts.App, commands: dict[str, tuple[str, str]]) -> None:
    for name, (place, summary) in commands.items():
        full = place if place.startswith("music_emotion.") else f"music_emotion.commands.{place}"
        app.command(full, name=name, help=summary)


def _leave(sentence: str, status: int) -> None:
    print(sentence, file=sys.stderr)
    sys.exit(status)


def _read_experiment_file(app: Any, commands: Any, arguments: cyclopts.ArgumentCollection) -> None:
    """Lay the settings of the experiment file between the defaults and the flags."""
    for argument in arguments:
        if argument.name in {"FILE", "--file"} and argument.tokens:
            from music_emotion.experiment_files import read_differences

            path = argument.tokens[0].value
            differences = read_differences(path)
            _switch_off(differences, arguments, path)
            for command in reversed(commands):  # else cyclopts takes the section [train] for the command
                differences = {command: differences}
            cyclopts.config.Dict(differences, source=path)(app, commands, arguments)
            return


def _switch_off(differences: dict[str, Any], arguments: cyclopts.ArgumentCollection, path: str) -> None:
    """Give pairs that a file switches off with `false` as None, since cyclopts reads two numbers there."""
    for argument in arguments:
        section, _, setting = argument.name.removeprefix("--").replace("-", "_").partition(".")
        is_pair = "tuple" in str(argument.hint) and type(None) in get_args(argument.hint)
        table = differences.get(section)
        if is_pair and isinstance(table, dict) and table.get(setting) is False:
            del table[setting]
            if not argument.tokens:
                argument.append(cyclopts.Token(keyword=argument.name, implicit_value=None, source=path))
