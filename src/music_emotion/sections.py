"""The sections of an experiment, their settings and their defaults.

Off is ``0`` or ``"none"``, since TOML has no null.
"""

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

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
