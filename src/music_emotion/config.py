"""The settings of an experiment: their meaning, their defaults, and which exclude each other."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from music_emotion.files import checked

Task = Literal["emotion", "genre"]
Rate = Literal["full", "beat"]
Rows = Literal["fused", "mel", "chroma"]
Unlabelled = Literal["test", "genre"]
Estimator = Literal["gp", "ridge", "svr", "svm", "boosting", "xgboost", "lightgbm"]

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=2**32)]  # the seeds that NumPy and scikit-learn take
Positive = Annotated[int, Field(ge=1, lt=2**32)]
AboveZero = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]

# TOML has no null: `false` switches an optional setting off
Off = BeforeValidator(lambda value: None if value is False or value in ("false", "False") else value)
Place = Annotated[str | None, Off]
CountAndWidth = Annotated[tuple[Positive, Positive] | None, Off]


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values or len(set(values)) < len(values):
        raise ValueError("give at least one, each once")
    return values


def _folder_name(name: str) -> str:
    is_plain = not re.search(r"[\x00-\x1f\x7f/]", name) and not name.startswith(".")
    if not is_plain or not 0 < len(name.encode(errors="replace")) <= 200:
        raise ValueError("give a folder's name, of letters and digits")
    return name


EachOnce = AfterValidator(_each_once)
FolderName = Annotated[str, AfterValidator(_folder_name)]

N_MELS, N_CHROMA = 128, 12
N_ROWS_OF: dict[Rows, int] = {"mel": N_MELS, "chroma": N_CHROMA, "fused": N_MELS + N_CHROMA}

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

# The course's own mapping of 20 raw classes to 10; None leaves a class out.
_COURSE_GENRES: dict[str, str | None] = {
    **{"Rock": "Rock", "Psych-Rock": "Rock", "Post-Rock": "Rock", "Folk": "Folk", "Psych-Folk": "Folk"},
    **{"Metal": "Metal", "Punk": "Metal", "Electronic": "Electronic", "Chiptune": "Electronic"},
    **{name: name for name in ("Trip-Hop", "Pop", "Hip-Hop", "Classical", "Blues", "Jazz")},
    **dict.fromkeys(("Indie-Rock", "Post-Punk", "Soundtrack", "International", "Old-Time")),
}
_TREES = ("boosting", "xgboost", "lightgbm")
_ESTIMATORS: dict[Task, tuple[str, ...]] = {
    "genre": ("svm", *_TREES),
    "emotion": ("gp", "ridge", "svr", *_TREES),
}


class Section(BaseModel):
    """Frozen settings that refuse unknown keys.

    A setting whose type includes None can be switched off: with `false` in a file or on the command
    line, with null in JSON.
    """

    model_config = ConfigDict(**STRICT, frozen=True)


class DataSection(Section):
    """Which data, and how it is read.

    Attributes
    ----------
    root : str
        Folder at or a few levels above the competition's folders.
    stores : str
        Folder of the packed arrays.
    rate : {"full", "beat"}
        Full-rate or beat-synchronous arrays.
    rows : {"mel", "chroma", "fused"}
        The rows of the (140, T) array that are used.
    normalise : bool
        Standardise every row with the mean and deviation of the training folds.
    targets : tuple of str
        The targets to learn; all in the label file when empty.
    target_range : tuple of float
        Smallest and largest allowed label.
    genres : dict of str to str or None
        Raw class to class; None leaves a class out. Empty keeps the raw classes.
    statistics : str or None
        CSV of `music-emotion statistics`, read in place of the arrays; "{split}" in it stands for
        train and test.
    columns : tuple of str
        Which columns of that CSV, as patterns such as "mfcc*_mean_db"; all when empty.
    windows : str or None
        Folder of `X.npy` and `labels.npy`, read in place of arrays and statistics; "{split}" in it
        stands for train, val and test.
    allow_bad_share : float
        Share of clips, 0 to 1, that may lack a file or a label or have an unusable array. They are
        listed and left out; above this share the run stops.
    """

    root: str = "data"
    stores: str = "stores"
    rate: Rate = "full"
    rows: Rows = "mel"
    normalise: bool = True
    targets: tuple[str, ...] = ()
    target_range: tuple[float, float] = (0.0, 1.0)
    genres: dict[str, Place] = Field(default_factory=lambda: dict(_COURSE_GENRES))
    statistics: Place = None
    columns: tuple[str, ...] = ()
    windows: Place = None
    allow_bad_share: Share = 0.0

    @property
    def of_layout(self) -> bool:
        """Whether the data are arrays in the competition's layout."""
        return self.windows is None and self.statistics is None


class ExcerptSection(Section):
    """The excerpts of a clip that the network reads.

    Attributes
    ----------
    frames : int or None
        Length of an excerpt in frames; None takes whole clips.
    per_clip : int
        Random excerpts of every clip in one epoch.
    test : int
        Evenly spaced excerpts whose predictions are averaged, in validation and test.
    padding : {"silence", "zero"}
        What fills an excerpt past the clip's end. Zero is the loudest value in dB; only the
        public baselines use it.
    """

    frames: Annotated[Positive | None, Off] = 256
    per_clip: Positive = 2
    test: Positive = 5
    padding: Literal["silence", "zero"] = "silence"


class FoldSection(Section):
    """How labelled clips are split.

    Attributes
    ----------
    split : {"folds", "holdout"}
        Folds, each of which validates once; or, for every seed anew, 70 % of the clips to train on,
        15 % to validate with and 15 % to test on. Windows that come in three splits keep theirs.
    n : int
        Number of folds.
    groups : str or None
        CSV with columns `Id` and `group`; a split never divides a group. "set" takes the groups that
        the extraction wrote beside the set, if clips share recordings.
    """

    split: Literal["folds", "holdout"] = "folds"
    n: Annotated[int, Field(ge=2)] = 5
    groups: Place = None


class ModelSection(Section):
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
        Rows and frames of the input that are averaged into one.
    norm : {"batch"} or None
        Batch normalisation after a convolution, or a layer of mlp.
    activation : {"relu", "gelu", "silu"} or None
        Activation after it, and after the hidden layers of the "dense" head.
    readout : {"mean-max", "attention", "flatten"}
        Feature maps to a vector: the mean over time and frequency beside the maximum over time of
        the frequency mean, that mean's mean and deviation over time with learnt weights of the
        frames, or all values (which fixes the input length).
    head : {"linear", "mlp", "dense"}
        One linear layer, the public baseline's two-layer head of 128 hidden units (one head per
        target), or hidden layers that all outputs share.
    head_widths : tuple of int
        Units of each hidden layer of the "dense" head.
    dropout : float
        Before the head's layers (of "dense" as `dropout_place` says); between layers of the LSTM.
    dropout_place : {"before", "after"}
        Whether the "dense" head's dropout comes before its hidden layers or after them.
    lstm_width : int
        Units of each of the LSTM's two layers.
    bidirectional : bool
        Whether the LSTM reads in both directions.
    backbone : str
        Name of a timm model, for the kind "timm".
    weights : str or None
        Local file with the timm model's pretrained weights; random ones without.
    trunk : str or None
        `model.safetensors` of a genre run whose trunk this network starts from.
    """

    kind: Literal["conv", "lstm", "mlp", "timm"] = "conv"
    channels: Annotated[tuple[Literal["spectrogram", "frequency", "delta"], ...], EachOnce] = (
        "spectrogram",
        "frequency",
    )
    widths: Annotated[tuple[Positive, ...], Field(min_length=1)] = (32, 64, 128, 256)
    convolutions: Positive = 2
    kernel: Positive = 3
    padded: bool = True
    pool: Literal["average", "max"] = "average"
    pool_size: Positive = 2
    stem_pool: tuple[Positive, Positive] = (2, 4)
    norm: Annotated[Literal["batch"] | None, Off] = "batch"
    activation: Annotated[Literal["relu", "gelu", "silu"] | None, Off] = "relu"
    readout: Literal["mean-max", "attention", "flatten"] = "mean-max"
    head: Literal["linear", "mlp", "dense"] = "linear"
    head_widths: tuple[Positive, ...] = (256,)
    dropout: Share = 0.3
    dropout_place: Literal["before", "after"] = "before"
    lstm_width: Positive = 128
    bidirectional: bool = True
    backbone: str = "resnet10t"
    weights: Place = None
    trunk: Place = None

    @property
    def smallest_input(self) -> tuple[int, int]:
        """Fewest rows and frames that leave at least one value in the last feature map of conv."""
        size = 1
        for _ in self.widths:
            size = size * self.pool_size + (0 if self.padded else self.convolutions * (self.kernel - 1))
        rows, frames = self.stem_pool
        return size * rows, size * frames


class ClassicalSection(Section):
    """An estimator on clip statistics, in place of a network.

    Attributes
    ----------
    kind : {"gp", "ridge", "svr", "svm", "boosting", "xgboost", "lightgbm"} or None
        For targets a Gaussian process, ridge regression or support vector regression; for genres a
        support vector machine, like SVR with a Gaussian kernel; for either boosted trees by
        scikit-learn, XGBoost or LightGBM (the latter two in the extra `classical`). None trains the
        network.
    alpha : float
        Ridge: weight of the penalty.
    c : float
        SVR, SVM: weight of errors.
    gamma : float
        SVR, SVM: how narrow the kernel is, in parts of one over the number of statistics that vary.
    rounds : int
        Trees: how many per target or class.
    learning_rate : float
        Trees: share of each tree that is added.
    leaves : int
        Trees: leaves of a tree.
    depth : int or None
        Trees: most splits above a leaf; None for any number.
    leaf_clips : int
        Trees: fewest clips in a leaf (XGBoost weighs clips, less the surer it is of them); with less
        than twice as many to train on, nothing is learnt.
    feature_share, clip_share : float
        Trees: share of the statistics that a split may choose from, and of the clips that a tree is
        fitted to, above 0 to 1; "boosting" takes all clips.
    l2 : float
        Trees: penalty of large leaf values.
    """

    kind: Annotated[Estimator | None, Off] = None
    alpha: NotNegative = 500.0
    c: AboveZero = 1.0
    gamma: AboveZero = 1.0
    rounds: Positive = 300
    learning_rate: AboveZero = 0.03
    leaves: Annotated[int, Field(ge=2)] = 8
    depth: Annotated[Positive | None, Off] = None
    leaf_clips: Positive = 20
    feature_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    clip_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    l2: NotNegative = 0.0


class AugmentSection(Section):
    """Changes to training batches.

    Attributes
    ----------
    equaliser : float or None
        FilterAugment: deviation of the random curve that makes mel bands louder and softer, in
        deviations of a row.
    row_shift : int
        By how many rows mel bands move up or down at most.
    style_mixing : float
        MixStyle: share of batches in which excerpts take on, in part, the mean and deviation over
        time of others in every mel band.
    frequency_masks : tuple of int or None
        SpecAugment: number of masked bands per excerpt, and their largest width in rows.
    time_masks : tuple of int or None
        SpecAugment: number of masked spans per excerpt, and their largest width in frames.
    mixup : float or None
        Both parameters of the Beta distribution that mixes two excerpts.
    mixup_bandwidth : float or None
        C-Mixup: how far apart the values of two mixed excerpts usually are, in deviations over the
        batch; None mixes any two.
    """

    equaliser: Annotated[AboveZero | None, Off] = 0.4
    row_shift: Count = 0
    style_mixing: Share = 0.0
    frequency_masks: CountAndWidth = (2, 24)
    time_masks: CountAndWidth = (2, 48)
    mixup: Annotated[AboveZero | None, Off] = 0.4
    mixup_bandwidth: Annotated[AboveZero | None, Off] = None


class LossSection(Section):
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
        folds. Predictions are mapped back to the target's units.
    class_weights : {"balanced"} or None
        Genre: weight classes by the inverse of their frequency.
    genre : float
        Emotion: weight of the cross-entropy of a second head that predicts genres for as many
        excerpts of the genre set in every update. `class_weights` holds for it.
    """

    squared: NotNegative = 1.0
    pearson: NotNegative = 1.0
    pairwise: NotNegative = 0.0
    soft_rank: NotNegative = 0.0
    target_weights: tuple[NotNegative, ...] = ()
    standardise: bool = True
    rank_normal: bool = False
    class_weights: Annotated[Literal["balanced"] | None, Off] = None
    genre: NotNegative = 0.0


class OptimSection(Section):
    """Optimiser and schedule.

    Attributes
    ----------
    name : str
        Any optimiser timm knows.
    learning_rate : float
        The largest one.
    momentum : float
        Of optimisers that have it, such as "sgd" (Nesterov's) and "momentum" (plain).
    weight_decay : float
        Applied to weights only, unless `decay_all`.
    decay_all : bool
        Also decay biases and normalisation, as plain torch optimisers do.
    schedule : {"one-cycle", "cosine", "constant"}
        Course of the learning rate over all updates.
    warmup : float
        Share of all updates, 0 to 1, in which the learning rate rises.
    clip_norm : float or None
        Largest norm of the gradient.
    """

    name: str = "adamw"
    learning_rate: AboveZero = 2e-3
    momentum: Share = 0.9
    weight_decay: NotNegative = 0.05
    decay_all: bool = False
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"
    warmup: Share = 0.3
    clip_norm: Annotated[AboveZero | None, Off] = 5.0


class TrainSection(Section):
    """The course of a training.

    Attributes
    ----------
    epochs : int
        Passes over the training clips (each gives `excerpt.per_clip` excerpts).
    batch_size : int
        Excerpts in one update, over all processes together.
    ema : float or None
        Largest decay of the exponential moving average of the weights.
    valid_every : int
        Validate after every so many epochs, and after the last.
    select : {"last", "best-loss", "best-score"}
        Which epoch's weights are kept. Choosing on the fold that is then reported inflates the
        score, which is marked `selected on validation`.
    patience : int or None
        Stop after so many validations without a better one. Needs a `select` of best.
    keep_last : bool
        Where `select` is of best, also test the last epoch's weights (`test-last.csv` of every fold).
    frozen_epochs : int
        First epochs in which only the head learns; needs a trunk or weights.
    """

    epochs: Positive = 60
    batch_size: Positive = 24
    ema: Annotated[float | None, Field(gt=0, lt=1), Off] = 0.998
    valid_every: Positive = 5
    select: Literal["last", "best-loss", "best-score"] = "last"
    patience: Annotated[Positive | None, Off] = None
    keep_last: bool = False
    frozen_epochs: Count = 0


class PseudoSection(Section):
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
    clips: Annotated[tuple[Unlabelled, ...], EachOnce] = ("test", "genre")
    labelled_repeats: Positive = 1


class Experiment(Section):
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

    name: FolderName = "multitask"
    task: Task = "emotion"
    seeds: Annotated[tuple[Count, ...], EachOnce] = (0,)
    data: DataSection = DataSection()
    excerpt: ExcerptSection = ExcerptSection()
    folds: FoldSection = FoldSection()
    model: ModelSection = ModelSection()
    classical: ClassicalSection = ClassicalSection()
    augment: AugmentSection = AugmentSection()
    loss: LossSection = LossSection()
    optim: OptimSection = OptimSection()
    train: TrainSection = TrainSection()
    pseudo: PseudoSection = PseudoSection()

    @property
    def is_classical(self) -> bool:
        """Whether an estimator on clip statistics takes the network's place."""
        return self.classical.kind is not None

    @property
    def has_repeats(self) -> bool:
        """Whether every seed trains, validates and tests once, in place of folds."""
        return self.folds.split == "holdout" or self.data.windows is not None

    @property
    def selects_on_validation(self) -> bool:
        """Whether the clips that are scored have chosen the network's epoch."""
        return self.train.select != "last" and not self.is_classical

    @property
    def starts_pretrained(self) -> bool:
        """Whether the network starts from a trunk or from a backbone's weights."""
        return self.model.trunk is not None or self.model.weights is not None

    @model_validator(mode="after")
    def _check_data(self) -> Self:
        data, kind = self.data, self.model.kind
        if not data.normalise:
            for name in ("frequency_masks", "time_masks", "equaliser"):
                if getattr(self.augment, name) is not None:
                    raise ValueError(
                        f"augment.{name} needs rows of mean 0 and deviation 1. Set it to false, or "
                        f"data.normalise to true."
                    )
        if data.windows is None and data.statistics and kind != "mlp" and not self.is_classical:
            raise ValueError(
                f"data.statistics is one vector per clip, which model.kind '{kind}' can't read. "
                f"Give 'mlp' with excerpt.frames 1, or a classical.kind."
            )
        if data.windows is not None and self.task != "genre":
            raise ValueError("data.windows holds genres in labels.npy. Give the task 'genre'.")
        return self

    @model_validator(mode="after")
    def _check_network(self) -> Self:
        model, whole = self.model, self.excerpt.frames is None
        if whole and (model.kind == "mlp" or (model.kind == "conv" and model.readout == "flatten")):
            fixing = "kind 'mlp'" if model.kind == "mlp" else "readout 'flatten'"
            raise ValueError(f"model.{fixing} reads one length, but excerpt.frames is false. Give a number.")
        n_rows, fewest = N_ROWS_OF[self.data.rows], model.smallest_input[0]
        if model.kind == "conv" and not self.is_classical and self.data.of_layout and n_rows < fewest:
            raise ValueError(
                f"the network pools at least {fewest} rows, but data.rows '{self.data.rows}' has {n_rows}. "
                f"Give fewer model.widths, or a smaller model.pool_size or model.stem_pool."
            )
        return self

    @model_validator(mode="after")
    def _check_training(self) -> Self:
        train = self.train
        if train.select == "last" and (train.patience or train.keep_last):
            name = "patience" if train.patience else "keep_last"
            raise ValueError(
                f"train.{name} needs a best epoch, but train.select is 'last'. Give train.select "
                f"'best-score' or 'best-loss', or train.{name} false."
            )
        if train.keep_last and not self.has_repeats:
            raise ValueError("train.keep_last tests on labelled clips. Give folds.split 'holdout'.")
        if train.frozen_epochs and not self.starts_pretrained:
            raise ValueError("train.frozen_epochs freezes random weights. Give model.trunk or model.weights.")
        return self

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        loss, is_emotion = self.loss, self.task == "emotion"
        if loss.rank_normal and not loss.standardise:
            raise ValueError("loss.rank_normal needs standardised targets. Give loss.standardise true.")
        if is_emotion and loss.squared == 0:
            raise ValueError(
                "loss.squared is 0, but the other losses ignore the scale of predictions, so folds could not "
                "be pooled. Give loss.squared a small weight, such as 0.1."
            )
        learns_arrays = self.data.of_layout and not self.is_classical and self.excerpt.frames is not None
        if loss.genre and not (is_emotion and learns_arrays):
            raise ValueError(
                "loss.genre gives an emotion network a second head for genre excerpts. Set it to 0, or "
                "give task 'emotion', excerpt.frames and no classical.kind, data.windows or data.statistics."
            )
        return self

    @model_validator(mode="after")
    def _check_estimator(self) -> Self:
        kind, fitting = self.classical.kind, _ESTIMATORS[self.task]
        if kind is None:
            return self
        if kind not in fitting:
            raise ValueError(f"classical.kind '{kind}' can't do {self.task}. Give {', '.join(fitting)}.")
        if kind == "boosting" and self.classical.clip_share < 1:
            raise ValueError("classical.kind 'boosting' fits all clips. Give classical.clip_share 1.")
        if self.data.rate == "beat":
            raise ValueError(f"classical.kind '{kind}' needs frames of equal length. Give data.rate 'full'.")
        if self.starts_pretrained:
            raise ValueError(f"classical.kind '{kind}' has no use for model.trunk or weights. Remove them.")
        return self

    @model_validator(mode="after")
    def _check_teachers(self) -> Self:
        if not self.pseudo.teachers:
            return self
        if self.task != "emotion" or self.has_repeats or not self.data.of_layout:
            raise ValueError(
                "pseudo.teachers give targets to unlabelled arrays, fold by fold. Give the task 'emotion', "
                "folds.split 'folds' and no data.statistics or data.windows, or no teachers."
            )
        if self.is_classical:
            raise ValueError(
                f"classical.kind '{self.classical.kind}' can't learn from pseudo.teachers. Give a network, "
                f"or no teachers; an estimator can be a teacher."
            )
        return self


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
    return checked(Experiment, differences, place)


def experiment_to_dict(experiment: Experiment) -> dict[str, Any]:
    """The resolved experiment as plain values, as `experiment.json` holds it."""
    return experiment.model_dump(mode="json")


def differing_keys(one: dict[str, Any], other: dict[str, Any], above: str = "") -> list[str]:
    """Dotted keys in which two resolved experiments differ."""
    keys: list[str] = []
    for key in sorted(one.keys() | other.keys()):
        left, right = one.get(key, ...), other.get(key, ...)
        if isinstance(left, dict) and isinstance(right, dict):
            keys += differing_keys(left, right, f"{above}{key}.")
        elif left != right:
            keys.append(f"{above}{key}")
    return keys
