"""Every setting of an experiment: its meaning, its default, and what excludes it."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import field, fields, is_dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from music_emotion.files import InputError, nearest, read_toml, shortened

Task = Literal["emotion", "genre"]
Rate = Literal["full", "beat"]
Rows = Literal["fused", "mel", "chroma"]
Channel = Literal["spectrogram", "frequency", "delta"]
Unlabelled = Literal["test", "genre"]

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=2**32)]  # above, NumPy and scikit-learn take no seed
Positive = Annotated[int, Field(ge=1, lt=2**32)]
PartialShare = Annotated[float, Field(gt=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]


def _both(value: Any) -> Any:
    """One size means that of rows and frames alike, as models of earlier versions say it."""
    return (value, value) if isinstance(value, int) else value


RowsAndFrames = Annotated[tuple[Positive, Positive], BeforeValidator(_both)]

N_MELS, N_CHROMA = 128, 12
N_ROWS_OF: dict[Rows, int] = {"mel": N_MELS, "chroma": N_CHROMA, "fused": N_MELS + N_CHROMA}

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

# The course's own mapping of 20 raw classes to 10; "none" leaves a class out.
_COURSE_GENRES = {
    **{"Rock": "Rock", "Psych-Rock": "Rock", "Post-Rock": "Rock", "Folk": "Folk", "Psych-Folk": "Folk"},
    **{"Metal": "Metal", "Punk": "Metal", "Electronic": "Electronic", "Chiptune": "Electronic"},
    **{name: name for name in ("Trip-Hop", "Pop", "Hip-Hop", "Classical", "Blues", "Jazz")},
    **dict.fromkeys(("Indie-Rock", "Post-Punk", "Soundtrack", "International", "Old-Time"), "none"),
}


@dataclass(frozen=True, config=STRICT)
class DataSection:
    """Which data, and how it is read.

    Attributes
    ----------
    root : str
        Folder at or a few levels above the competition's folders.
    stores : str
        Where the packed arrays are kept.
    rate : {"full", "beat"}
        Full-rate or beat-synchronous arrays.
    rows : {"mel", "chroma", "fused"}
        The part of the (140, T) array that is used.
    normalise : {"band", "none"}
        Standardise every row with the mean and deviation of the training folds.
    targets : tuple of str
        The targets to learn; all in the label file when empty.
    target_range : tuple of float
        Smallest and largest allowed label.
    genres : dict of str to str
        Raw class to class; "none" leaves a class out. Empty keeps the raw classes.
    statistics : str
        CSV of scripts/summarise.py whose numbers are read in place of the arrays; "{split}" in it
        stands for train and test. "none" reads the arrays.
    columns : tuple of str
        Which columns of that CSV, as patterns such as "mfcc*_mean_db"; all when empty.
    windows : str
        Folder of `X.npy` and `labels.npy`, read in place of all that; "{split}" in it stands for
        train, val and test. "none" reads no such windows.
    allow_bad_share : float
        Share of clips, 0 to 1, that may lack a file or a label or have an unusable array and are
        then listed and left out; above it the run stops.
    """

    root: str = "data"
    stores: str = "stores"
    rate: Rate = "full"
    rows: Rows = "mel"
    normalise: Literal["band", "none"] = "band"
    targets: tuple[str, ...] = ()
    target_range: tuple[float, float] = (0.0, 1.0)
    genres: dict[str, str] = field(default_factory=lambda: dict(_COURSE_GENRES))
    statistics: str = "none"
    columns: tuple[str, ...] = ()
    windows: str = "none"
    allow_bad_share: Share = 0.0


@dataclass(frozen=True, config=STRICT)
class ExcerptSection:
    """The parts of a clip that the network sees.

    Attributes
    ----------
    frames : int
        Length of an excerpt in frames; 0 takes whole clips.
    per_clip : int
        Random excerpts of every clip in one epoch.
    test : int
        Evenly spaced excerpts whose predictions are averaged, in validation and test.
    padding : {"silence", "zero"}
        What fills an excerpt past the clip's end. Zero is the loudest value in dB; only the
        public baselines use it.
    """

    frames: Count = 256
    per_clip: Positive = 2
    test: Positive = 5
    padding: Literal["silence", "zero"] = "silence"


@dataclass(frozen=True, config=STRICT)
class FoldSection:
    """How labelled clips are split.

    Attributes
    ----------
    split : {"folds", "holdout"}
        Folds, each of which validates once; or, for every seed anew, one part to train on, one to
        validate with and one to test on. Windows that come in three parts keep theirs.
    n : int
        Number of folds.
    valid_share, test_share : float
        Parts of a holdout, above 0; the rest is trained on.
    groups : str
        CSV with columns `Id` and `group`; a group is never on two sides. "set" takes those that
        the extraction wrote beside the set, if clips share recordings; "none" has none.
    """

    split: Literal["folds", "holdout"] = "folds"
    n: Annotated[int, Field(ge=2)] = 5
    valid_share: PartialShare = 0.15
    test_share: PartialShare = 0.15
    groups: str = "none"


@dataclass(frozen=True, config=STRICT)
class ModelSection:
    """The network.

    Attributes
    ----------
    kind : {"conv", "lstm", "mlp", "timm"}
        Configurable ConvNet, LSTM over frames, fully connected layers, or a timm backbone.
    channels : tuple of {"spectrogram", "frequency", "delta"}
        Input channels of conv and timm: the rows themselves, a frequency coordinate from -1 to 1,
        the difference to the previous frame.
    widths : tuple of int
        Channels of each block of conv; units of each layer of mlp.
    convolutions : int
        Convolutions in a block.
    kernel : int
        Their size, in rows and frames.
    padded : bool
        Whether convolutions keep the size of their input.
    pool : {"average", "max"}
        Pooling at the end of a block.
    pool_size : int
        Its size and stride.
    stem_pool : tuple of int
        Rows and frames of the input that are averaged into one; 1 for none.
    norm : {"batch", "none"}
        Normalisation after a convolution, or a layer of mlp.
    activation : {"relu", "gelu", "silu", "none"}
        Activation after it, and after the hidden layers of the "dense" head.
    readout : {"mean-max", "attention", "flatten"}
        Feature maps to a vector: the mean over time and frequency beside the maximum over time of
        the frequency mean, that mean's mean and deviation over time with learnt weights of the
        frames, or all values (which fixes the input length).
    head : {"linear", "mlp", "dense"}
        One linear layer, the public baseline's two-layer head (one per target), or hidden layers
        that all outputs share.
    head_width : int
        Hidden units of the "mlp" head.
    head_widths : tuple of int
        Units of each hidden layer of the "dense" head.
    dropout : float
        Before the head's layers (of "dense" as `dropout_place` says); between layers of the LSTM.
    dropout_place : {"before", "after"}
        Whether the "dense" head's dropout comes before its hidden layers or after them.
    lstm_width, lstm_layers, bidirectional
        The LSTM.
    backbone : str
        Name of a timm model, for the kind "timm".
    weights : str
        Local file with the timm model's pretrained weights; "none" for random ones.
    trunk : str
        `model.safetensors` of a genre run whose trunk this network starts from, or "none".
    """

    kind: Literal["conv", "lstm", "mlp", "timm"] = "conv"
    channels: tuple[Channel, ...] = ("spectrogram", "frequency")
    widths: tuple[Positive, ...] = (32, 64, 128, 256)
    convolutions: Positive = 2
    kernel: Positive = 3
    padded: bool = True
    pool: Literal["average", "max"] = "average"
    pool_size: Positive = 2
    stem_pool: RowsAndFrames = (2, 4)
    norm: Literal["batch", "none"] = "batch"
    activation: Literal["relu", "gelu", "silu", "none"] = "relu"
    readout: Literal["mean-max", "attention", "flatten"] = "mean-max"
    head: Literal["linear", "mlp", "dense"] = "linear"
    head_width: Positive = 128
    head_widths: tuple[Positive, ...] = (256,)
    dropout: Share = 0.3
    dropout_place: Literal["before", "after"] = "before"
    lstm_width: Positive = 128
    lstm_layers: Positive = 2
    bidirectional: bool = True
    backbone: str = "resnet18"
    weights: str = "none"
    trunk: str = "none"

    @property
    def smallest_input(self) -> tuple[int, int]:
        """Fewest rows and frames of which conv leaves anything in its last feature map."""
        size = 1
        for _ in self.widths:
            size = size * self.pool_size + (0 if self.padded else self.convolutions * (self.kernel - 1))
        rows, frames = self.stem_pool
        return size * rows, size * frames


@dataclass(frozen=True, config=STRICT)
class ClassicalSection:
    """An estimator on clip statistics, in place of a network.

    Attributes
    ----------
    kind : {"none", "gp", "ridge", "svr", "svm", "boosting", "xgboost", "lightgbm"}
        For targets a Gaussian process, ridge regression or support vector regression, for genres a
        support vector machine (like the other with a Gaussian kernel), for either boosted trees by
        scikit-learn, XGBoost or LightGBM (the latter two in the extra `classical`); "none" trains
        the network.
    spread : float
        Gaussian process: how unequally families of statistics may matter, as the deviation of the
        logarithm of their relevance.
    alpha : float
        Ridge: weight of the penalty.
    c : float
        SVR, SVM: weight of errors.
    epsilon : float
        SVR: errors that cost nothing, in deviations of a target.
    gamma : float
        SVR, SVM: how narrow the kernel is, in parts of one over the number of statistics that vary.
    rounds : int
        Trees: how many per target or class.
    learning_rate : float
        Trees: share of each tree that is added.
    leaves : int
        Trees: leaves of a tree.
    depth : int
        Trees: splits above a leaf; 0 for any.
    leaf_clips : int
        Trees: fewest clips in a leaf (XGBoost weighs clips, less the surer it is of them); with less
        than twice as many to train on, nothing is learnt.
    feature_share, clip_share : float
        Trees: share of the statistics that a split may choose from, and of the clips that a tree is
        fitted to, above 0 to 1; "boosting" takes all clips.
    l2 : float
        Trees: penalty of large leaf values.
    """

    kind: Literal["none", "gp", "ridge", "svr", "svm", "boosting", "xgboost", "lightgbm"] = "none"
    spread: Annotated[float, Field(gt=0)] = 1.5
    alpha: NotNegative = 500.0
    c: Annotated[float, Field(gt=0)] = 1.0
    epsilon: NotNegative = 0.1
    gamma: Annotated[float, Field(gt=0)] = 1.0
    rounds: Positive = 300
    learning_rate: Annotated[float, Field(gt=0)] = 0.03
    leaves: Annotated[int, Field(ge=2)] = 8
    depth: Count = 0
    leaf_clips: Positive = 20
    feature_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    clip_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    l2: NotNegative = 0.0


@dataclass(frozen=True, config=STRICT)
class AugmentSection:
    """Changes to training batches; widths in rows and frames, counts per excerpt.

    Attributes
    ----------
    equaliser : float
        Deviation of the random curve that makes mel bands louder and softer, in those of a row; 0
        for off.
    row_shift : int
        By how many rows mel bands move up or down at most.
    style_mixing : float
        Share of batches in which excerpts take on the mean and deviation over time, in every mel
        band, of others in part.
    frequency_masks, frequency_width : int
        Number and largest width of masked bands.
    time_masks, time_width : int
        Number and largest width of masked spans.
    mixup : float
        Both parameters of the Beta distribution that mixes two excerpts; 0 for off.
    mixup_bandwidth : float
        How far apart the values of two mixed excerpts usually are, in deviations over the batch; 0
        mixes any two.
    """

    equaliser: NotNegative = 0.4
    row_shift: Count = 0
    style_mixing: Share = 0.0
    frequency_masks: Count = 2
    frequency_width: Count = 24
    time_masks: Count = 2
    time_width: Count = 48
    mixup: NotNegative = 0.4
    mixup_bandwidth: NotNegative = 0.0


@dataclass(frozen=True, config=STRICT)
class LossSection:
    """What is minimised.

    Attributes
    ----------
    squared : float
        Weight of the squared error, above 0 for emotion: the other terms know no scale.
    pearson : float
        Weight of 1 - Pearson correlation over the batch.
    pairwise : float
        Weight of RankNet's logistic loss over all pairs of the batch.
    soft_rank : float
        Weight of 1 - a differentiable Spearman correlation over the batch.
    target_weights : tuple of float
        Weight of every target; equal when empty.
    standardise : bool
        Whether targets are standardised with the training folds' mean and deviation.
    rank_normal : bool
        Whether, instead, every target is learnt as the normal score of its rank in the training
        folds, to which predictions in its units are mapped back.
    class_weights : {"none", "balanced"}
        Genre: weight classes by the inverse of their frequency.
    label_smoothing : float
        Genre: share of probability spread over all classes.
    genre : float
        Emotion: weight of the cross-entropy of genres that a second head guesses for as many excerpts
        of the genre set in every update; 0 for none. `class_weights` and `label_smoothing` hold for it.
    """

    squared: NotNegative = 1.0
    pearson: NotNegative = 1.0
    pairwise: NotNegative = 0.0
    soft_rank: NotNegative = 0.0
    target_weights: tuple[NotNegative, ...] = ()
    standardise: bool = True
    rank_normal: bool = False
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: Share = 0.0
    genre: NotNegative = 0.0


@dataclass(frozen=True, config=STRICT)
class OptimSection:
    """Optimiser and schedule.

    Attributes
    ----------
    name : str
        Any optimiser timm knows.
    learning_rate : float
        The largest one.
    momentum : float
        Of optimisers that have it, such as "sgd" (Nesterov's) and "momentum" (plain; 0 for none).
    weight_decay : float
        Applied to weights only, unless `decay_all`.
    decay_all : bool
        Also decay biases and normalisation, as plain torch optimisers do.
    schedule : {"one-cycle", "cosine", "constant"}
        Course of the learning rate over all updates.
    warmup : float
        Share of all updates, 0 to 1, in which the learning rate rises.
    clip_norm : float
        Largest norm of the gradient; 0 for no clipping.
    """

    name: str = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    momentum: Share = 0.9
    weight_decay: NotNegative = 0.05
    decay_all: bool = False
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"
    warmup: Share = 0.3
    clip_norm: NotNegative = 5.0


@dataclass(frozen=True, config=STRICT)
class TrainSection:
    """The course of a training.

    Attributes
    ----------
    epochs : int
        Passes over the training clips (each gives `excerpt.per_clip` excerpts).
    batch_size : int
        Excerpts in one update, over all processes together.
    ema : float
        Largest decay of the running average of the weights; 0 for off.
    valid_every : int
        Validate after every so many epochs, and after the last.
    select : {"last", "best-loss", "best-score"}
        Which epoch's weights are kept. Choosing on the fold that is then reported inflates the
        score, which is marked `selected on validation`.
    patience : int
        Stop after so many validations without a better one; 0 for never. Needs a `select` of best.
    keep_last : bool
        Where `select` is of best, also test the last epoch's weights (`test-last.csv` of every fold).
    frozen_epochs : int
        First epochs in which only the head learns; needs a trunk or weights.
    channels_last : bool
        Memory format of convolutions.
    """

    epochs: Positive = 60
    batch_size: Positive = 24
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.998
    valid_every: Positive = 5
    select: Literal["last", "best-loss", "best-score"] = "last"
    patience: Count = 0
    keep_last: bool = False
    frozen_epochs: Count = 0
    channels_last: bool = True


@dataclass(frozen=True, config=STRICT)
class PseudoSection:
    """A second round: clips without labels learn from what other runs, the teachers, predict for them.

    Fold k of a seed trains on predictions of the teachers' fold k of that seed alone, none of which
    has seen the clips that this fold is scored on.

    Attributes
    ----------
    teachers : tuple of str
        Directories of finished emotion runs with the same clips, seeds and folds, such as
        "runs/multitask"; no second round when empty.
    clips : tuple of {"test", "genre"}
        The emotion set's test split, and all clips of the genre set.
    labelled_repeats : int
        How often an epoch passes each clip that has labels, so that they are not drowned.
    """

    teachers: tuple[str, ...] = ()
    clips: tuple[Unlabelled, ...] = ("test", "genre")
    labelled_repeats: Positive = 1


TREES = ("boosting", "xgboost", "lightgbm")
_GENRE_KINDS, _EMOTION_KINDS = ("svm", *TREES), ("gp", "ridge", "svr", *TREES)

Rules = Iterator[tuple[bool, str]]  # whether a rule is broken, and the sentence that then helps


def check_experiment(experiment: "Experiment", place: str) -> None:
    """Refuse settings that exclude each other.

    Parameters
    ----------
    experiment : Experiment
    place : str
        Where its settings come from, for messages.

    Raises
    ------
    InputError
        Naming both settings and what to change.
    """
    groups = (_names, _data, _folds, _network, _loss, _training, _estimator, _second_round)
    for broken, sentence in chain.from_iterable(rules(experiment) for rules in groups):
        if broken:
            raise InputError(f"{place}: experiment '{shortened(experiment.name)}': {sentence}")


def names_folder(name: str) -> bool:
    """Whether a name can be that of a folder which is seen, on any file system."""
    is_plain = not re.search(r"[\x00-\x1f\x7f/]", name) and not name.startswith(".")
    return is_plain and 0 < len(name.encode(errors="replace")) <= 200


def _of_layout(experiment: "Experiment") -> bool:
    return experiment.data.windows == experiment.data.statistics == "none"


def _starts_pretrained(experiment: "Experiment") -> bool:
    return experiment.model.trunk != "none" or experiment.model.weights != "none"


def _names(experiment: "Experiment") -> Rules:
    yield (
        not names_folder(experiment.name),
        f"name is {shortened(experiment.name)!r}; it names a folder, so give letters, digits and dashes.",
    )
    yield not experiment.seeds, "seeds is empty. Give at least one, such as [0]."
    yield len(set(experiment.seeds)) < len(experiment.seeds), "seeds holds a seed twice."


def _data(experiment: "Experiment") -> Rules:
    data, augment = experiment.data, experiment.augment
    yield (
        bool(augment.frequency_masks or augment.time_masks) and data.normalise == "none",
        "augment masks put the mean in place of a band, but data.normalise 'none' knows no mean. "
        "Set augment.frequency_masks and augment.time_masks to 0, or data.normalise to 'band'.",
    )
    yield (
        augment.equaliser > 0 and data.normalise == "none",
        "augment.equaliser counts in deviations of a row, but data.normalise 'none' knows none. "
        "Set augment.equaliser to 0, or data.normalise to 'band'.",
    )
    yield (
        data.windows == "none" != data.statistics
        and experiment.model.kind != "mlp"
        and not experiment.is_classical,
        f"data.statistics gives one vector for a clip, of which model.kind '{experiment.model.kind}' makes "
        f"nothing. Give 'mlp' with excerpt.frames 1, or a classical.kind.",
    )
    yield (
        data.windows != "none" and experiment.task != "genre",
        "data.windows holds labels.npy, which are genres. Give the task 'genre'.",
    )


def _folds(experiment: "Experiment") -> Rules:
    yield (
        experiment.folds.valid_share + experiment.folds.test_share >= 1,
        "folds.valid_share and folds.test_share leave nothing to train on. Lower them.",
    )


def _network(experiment: "Experiment") -> Rules:
    model, whole = experiment.model, experiment.excerpt.frames == 0
    yield (
        model.kind == "conv" and model.readout == "flatten" and whole,
        "model.readout 'flatten' fixes the input length, but excerpt.frames is 0 (whole clips). "
        "Give excerpt.frames, such as 1293, or the readout 'mean-max' or 'attention'.",
    )
    yield (
        model.kind in {"conv", "mlp"} and not model.widths,
        f"model.kind '{model.kind}' has no layers, since model.widths is empty. Give at least one.",
    )
    n_rows, fewest = N_ROWS_OF[experiment.data.rows], model.smallest_input[0]
    yield (
        model.kind == "conv" and not experiment.is_classical and _of_layout(experiment) and n_rows < fewest,
        f"the network pools at least {fewest} rows, but data.rows '{experiment.data.rows}' has {n_rows}. "
        f"Give fewer model.widths, or a smaller model.pool_size or model.stem_pool.",
    )
    yield (
        model.kind == "mlp" and whole,
        "model.kind 'mlp' fixes the input length, but excerpt.frames is 0 (whole clips). Give "
        "excerpt.frames; statistics have 1.",
    )
    yield (
        not model.channels or len(set(model.channels)) < len(model.channels),
        f"model.channels is {model.channels}; give one to three different ones.",
    )


def _loss(experiment: "Experiment") -> Rules:
    loss, is_emotion = experiment.loss, experiment.task == "emotion"
    yield (
        is_emotion and loss.squared == 0,
        "loss.squared is 0, but the other losses know no scale, so folds could not be pooled in the "
        "targets' units. Give loss.squared a small weight, such as 0.1.",
    )
    yield (
        loss.rank_normal and not loss.standardise,
        "loss.rank_normal puts normal scores in place of standardised targets, but loss.standardise is "
        "false. Give loss.standardise true, or loss.rank_normal false.",
    )
    yield (
        loss.genre > 0 and (not is_emotion or experiment.is_classical or not _of_layout(experiment)),
        "loss.genre gives an emotion network a second head, which learns from the genre set's arrays. "
        "Set it to 0, or give the task 'emotion', and 'none' for classical.kind, data.windows and "
        "data.statistics.",
    )
    yield (
        loss.genre > 0 and experiment.excerpt.frames == 0,
        "loss.genre puts excerpts of two sets into one batch, but excerpt.frames is 0 (whole clips). "
        "Give excerpt.frames, such as 256, or loss.genre 0.",
    )


def _training(experiment: "Experiment") -> Rules:
    train = experiment.train
    yield (
        train.patience > 0 and train.select == "last",
        "train.patience stops early, but train.select 'last' keeps the last epoch. "
        "Give train.select 'best-score' or 'best-loss', or train.patience 0.",
    )
    yield (
        train.frozen_epochs > 0 and not _starts_pretrained(experiment),
        "train.frozen_epochs freezes a trunk of random weights. Give model.trunk or model.weights.",
    )
    yield (
        train.keep_last and train.select == "last",
        "train.keep_last tests the last epoch beside the best, but train.select 'last' selects none. "
        "Give train.select 'best-score' or 'best-loss'.",
    )
    yield (
        train.keep_last and not experiment.has_repeats,
        "train.keep_last compares two epochs on test clips with labels, which folds lack. Give "
        "folds.split 'holdout'.",
    )


def _estimator(experiment: "Experiment") -> Rules:
    if not experiment.is_classical:
        return
    kind = experiment.classical.kind
    fitting = _GENRE_KINDS if experiment.task == "genre" else _EMOTION_KINDS
    yield (
        kind not in fitting,
        f"classical.kind '{kind}' is not for the task '{experiment.task}'. Give {', '.join(fitting)}.",
    )
    yield (
        kind == "boosting" and experiment.classical.clip_share < 1,
        "classical.kind 'boosting' fits its trees to all clips, but classical.clip_share is below 1. "
        "Give 1, or the kind 'lightgbm' or 'xgboost'.",
    )
    yield (
        experiment.data.rate == "beat",
        f"classical.kind '{kind}' sums up full-rate arrays, whose frames are equally long. "
        f"Give data.rate 'full'.",
    )
    yield (
        _starts_pretrained(experiment),
        f"classical.kind '{kind}' has no use for model.trunk and model.weights. Leave them 'none'.",
    )


def _second_round(experiment: "Experiment") -> Rules:
    pseudo = experiment.pseudo
    yield (
        not pseudo.clips or len(set(pseudo.clips)) < len(pseudo.clips),
        f"pseudo.clips is {list(pseudo.clips)}. Give 'test', 'genre' or both, each once.",
    )
    if not pseudo.teachers:
        return
    yield (
        experiment.task != "emotion" or experiment.has_repeats or not _of_layout(experiment),
        "pseudo.teachers give targets to the layout's unlabelled arrays, fold by fold. Give the task "
        "'emotion', folds.split 'folds' and no data.statistics or data.windows, or no teachers.",
    )
    yield (
        experiment.is_classical,
        f"classical.kind '{experiment.classical.kind}' is fitted again wherever it predicts, also without "
        f"pseudo.teachers. Give a network, or no teachers; an estimator can be a teacher.",
    )


_MOST_NAMED = 10


@dataclass(frozen=True, config=STRICT)
class Experiment:
    """Everything that describes a run, and nothing about the machine it runs on.

    Attributes
    ----------
    name : str
        Names `runs/<name>`.
    task : {"emotion", "genre"}
        Regress targets or classify genres.
    seeds : tuple of int
        The folds are repeated for every seed.
    """

    name: str = "multitask"
    task: Task = "emotion"
    seeds: tuple[Count, ...] = (0,)
    data: DataSection = field(default_factory=DataSection)
    excerpt: ExcerptSection = field(default_factory=ExcerptSection)
    folds: FoldSection = field(default_factory=FoldSection)
    model: ModelSection = field(default_factory=ModelSection)
    classical: ClassicalSection = field(default_factory=ClassicalSection)
    augment: AugmentSection = field(default_factory=AugmentSection)
    loss: LossSection = field(default_factory=LossSection)
    optim: OptimSection = field(default_factory=OptimSection)
    train: TrainSection = field(default_factory=TrainSection)
    pseudo: PseudoSection = field(default_factory=PseudoSection)

    @property
    def is_classical(self) -> bool:
        """Whether an estimator on clip statistics takes the network's place."""
        return self.classical.kind != "none"

    @property
    def has_repeats(self) -> bool:
        """Whether every seed trains, validates and tests once, in place of folds."""
        return self.folds.split == "holdout" or self.data.windows != "none"

    @property
    def selects_on_validation(self) -> bool:
        """Whether the clips that are scored have chosen the network's epoch."""
        return self.train.select != "last" and not self.is_classical


def read_differences(path: Path) -> dict[str, Any]:
    """Read an experiment file: what it does differently from the defaults.

    Raises
    ------
    InputError
        Naming the file, the key or value, and the nearest right word.
    """
    differences = read_toml(path, "experiment file", "experiments/")
    build_experiment(differences, str(path))
    return differences


def build_experiment(differences: dict[str, Any], place: str) -> Experiment:
    """Lay differences over the defaults.

    Parameters
    ----------
    differences : dict
        Nested like `Experiment`.
    place : str
        Where they come from, for messages.

    Raises
    ------
    InputError
        For an unknown key, a value of the wrong kind, or settings that exclude each other.
    """
    if not isinstance(differences, dict):
        raise InputError(f"{place} holds no experiment, but {shortened(repr(differences))}.")
    _check_keys(differences, Experiment, place, "")
    try:
        experiment = TypeAdapter(Experiment).validate_python(differences)
    except ValidationError as error:
        raise InputError(describe(error, place)) from None
    check_experiment(experiment, place)
    return experiment


def _check_keys(differences: dict[str, Any], section: Any, place: str, above: str) -> None:
    known = {item.name: item.type for item in fields(section)}
    for key, value in differences.items():
        if key not in known:
            raise InputError(f"{place}: unknown key '{above}{shortened(key)}'; {nearest(key, known)}")
        if is_dataclass(known[key]) and isinstance(value, dict):
            _check_keys(value, known[key], place, f"{above}{key}.")


def describe(error: ValidationError, place: str) -> str:
    """Say what pydantic refused, as sentences."""
    sentences = []
    for item in error.errors()[:_MOST_NAMED]:
        key = shortened(".".join(str(part) for part in item["loc"]))
        held = "missing" if item["type"] == "missing" else _repr(item["input"])
        what = f"{key} is {held}; " if key else ""  # a rule between fields has no key
        sentence = f"{place}: {what}{_decapitalised(item['msg'].removeprefix('Value error, '))}"
        if item["type"] == "literal_error":
            choices = [word.strip("' ") for word in item["ctx"]["expected"].replace(" or ", ",").split(",")]
            close = difflib.get_close_matches(held, choices, n=1, cutoff=0.3)
            sentence += f"; did you mean '{close[0]}'?" if close else ""
        sentences.append(sentence if sentence.endswith("?") else sentence + ".")
    if error.error_count() > _MOST_NAMED:
        sentences.append(f"There are {error.error_count() - _MOST_NAMED} more.")
    return " ".join(sentences)


def _repr(value: Any) -> str:
    try:
        return shortened(repr(value), 200)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a huge number"


def _decapitalised(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def experiment_to_dict(experiment: Experiment) -> dict[str, Any]:
    """The resolved experiment as plain values, as `experiment.json` holds it."""
    return TypeAdapter(Experiment).dump_python(experiment, mode="json")


def differing_keys(one: dict[str, Any], other: dict[str, Any], above: str = "") -> list[str]:
    """Dotted keys in which two resolved experiments differ."""
    keys: list[str] = []
    for key in sorted(one.keys() | other.keys()):
        left, right = one.get(key), other.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            keys += differing_keys(left, right, f"{above}{key}.")
        elif left != right:
            keys.append(f"{above}{key}")
    return keys
