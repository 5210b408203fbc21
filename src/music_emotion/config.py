"""All settings of an experiment: meaning, types, defaults, and checks for contradictions."""

import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from music_emotion.files import checked, file_name

Task = Literal["emotion", "genre"]
Rate = Literal["full", "beat"]
Rows = Literal["fused", "mel", "chroma"]
Channel = Literal["spectrogram", "frequency", "delta"]
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
    if not name or name.startswith(".") or file_name(name, longest=200) != name:
        raise ValueError("give a folder's name, of letters and digits")
    return name


EachOnce = AfterValidator(_each_once)
FolderName = Annotated[str, AfterValidator(_folder_name)]

N_MELS, N_CHROMA = 128, 12
N_ROWS_OF: dict[Rows, int] = {"mel": N_MELS, "chroma": N_CHROMA, "fused": N_MELS + N_CHROMA}

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

# The course's mapping of 20 raw classes to 10; None leaves a class out.
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
    """The data and how it is read.

    Attributes
    ----------
    root : str
        Folder with the competition's folders, directly or a few levels below.
    more : tuple of str
        Roots of further emotion sets, whose training clips are joined to those of `root`, for networks. Their
        ids are shifted by thousands; `sets.csv` of the run lists them. A target gets the mean and standard
        deviation of the first set that has it. One that a set lacks is left out of the loss and the scores of
        its clips.
    map : dict of str to str
        Names of targets of the further sets to the names that are learnt, such as "arousal" to "energy".
        Other names are kept, so targets of different names are different targets.
    stores : str
        Folder of the packed arrays.
    rate : {"full", "beat"}
        Full-rate or beat-synchronous arrays.
    rows : {"mel", "chroma", "fused"}
        Which rows of the (140, T) array the model reads.
    normalise : bool
        Standardise every row with the mean and standard deviation of the training clips.
    targets : tuple of str
        The targets to learn; if empty, all targets of the label file.
    target_range : tuple of float
        Smallest and largest allowed label.
    genres : dict of str to str or None
        Raw class to class; None leaves a class out. Empty keeps the raw classes, and so does the default for
        a set with none of the competition's.
    statistics : str or None
        CSV of `music-emotion statistics`, read in place of the arrays; "{split}" in it stands for
        train and test.
    embeddings : tuple of str
        CSVs of `music-emotion embed`, or others with a column `id`, whose rows are read beside the
        statistics of a clip; "{split}" stands for train and test, "{task}" for emotion and genre. Columns
        "family:number" are of that family; other columns of a table are one family.
    columns : tuple of str
        Columns of these CSVs to use, as patterns such as "mfcc*_mean_db" or "msd-mean:*"; if empty, all.
    windows : str or None
        Folder of `X.npy` and `labels.npy`, read in place of arrays and statistics; "{split}" in it
        stands for train, val and test.
    allow_bad_share : float
        Largest share of clips, 0 to 1, that may lack a file or a label or have an unusable array. Such
        clips are listed and left out. The run stops if there are more.
    """

    root: str = "data"
    more: tuple[str, ...] = ()
    map: dict[str, str] = {}
    stores: str = "stores"
    rate: Rate = "full"
    rows: Rows = "mel"
    normalise: bool = True
    targets: tuple[str, ...] = ()
    target_range: tuple[float, float] = (0.0, 1.0)
    genres: dict[str, Place] = _COURSE_GENRES
    statistics: Place = None
    embeddings: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    windows: Place = None
    allow_bad_share: Share = 0.0

    @property
    def of_layout(self) -> bool:
        """Whether the data are arrays in the competition's layout, and nothing else."""
        return self.windows is None and self.statistics is None and not self.embeddings


class ExcerptSection(Section):
    """The excerpts that the network reads.

    Attributes
    ----------
    frames : int or None
        Length of an excerpt in frames; None takes whole clips.
    per_clip : int
        Random excerpts of every clip in each epoch.
    test : int
        Evenly spaced excerpts of every clip in validation and test. Their predictions are averaged.
    padding : {"silence", "zero"}
        Fill value of an excerpt after the end of its clip. Zero is the loudest value in dB; only the public
        baselines use it.
    """

    frames: Annotated[Positive | None, Off] = 256
    per_clip: Positive = 2
    test: Positive = 5
    padding: Literal["silence", "zero"] = "silence"


class FoldSection(Section):
    """How labelled clips are split into training, validation and test.

    Attributes
    ----------
    split : {"folds", "holdout", "published"}
        "folds" is cross-validation. "holdout" draws a random split into 70 % training, 15 % validation and
        15 % test clips for each seed. "published" is the split of the set's clip table (`splits.csv`): every
        seed trains on the same clips, and is scored on the set's test clips. If the set has no validation
        clips, each seed draws a tenth of the training clips (whole groups, if there are groups) for
        validation and does not train on them. Windows keep the splits they come in.
    n : int
        Number of folds.
    groups : str or None
        CSV with columns `Id` and `group`, such as the artist. All clips of a group stay in one split. "set"
        reads the groups that `music-emotion extract` wrote beside the set, such as the recordings.
    """

    split: Literal["folds", "holdout", "published"] = "folds"
    n: Annotated[int, Field(ge=2)] = 5
    groups: Place = None


class ModelSection(Section):
    """The network.

    Attributes
    ----------
    kind : {"conv", "lstm", "mlp", "timm", "ear"}
        Configurable ConvNet, LSTM over frames, fully connected layers, a timm backbone, or the pretrained
        MusiCNN, whose front end does not learn.
    channels : tuple of {"spectrogram", "frequency", "delta"}
        Input channels of conv and timm: the rows, a frequency coordinate from -1 to 1, and the
        difference from the previous frame.
    widths : tuple of int
        Channels of each block of conv; units of each layer of mlp.
    convolutions : int
        Convolutions in each block.
    kernel : int
        Kernel size in rows and frames.
    padded : bool
        Whether convolutions keep the size of their input.
    pool : {"average", "max"}
        Pooling at the end of each block.
    pool_size : int
        Size and stride of that pooling.
    stem_pool : tuple of int
        Size of the average pooling of the input, in rows and frames.
    norm : {"batch"} or None
        Batch normalisation after each convolution or layer of mlp.
    activation : {"relu", "gelu", "silu"} or None
        Activation after the normalisation, and after the hidden layers of the "dense" head.
    readout : {"mean-max", "attention", "flatten"}
        How feature maps become a vector. "mean-max" averages over frequency and takes mean and maximum
        over time. "attention" takes mean and standard deviation over time with learnt weights of the
        frames. "flatten" takes all values, which fixes the input length.
    head : {"linear", "mlp", "dense"}
        One linear layer; the public baseline's head of 128 hidden units for each target; or hidden
        layers that all outputs share.
    head_widths : tuple of int
        Units of each hidden layer of the "dense" head.
    dropout : float
        Dropout rate before the layers of the head, and between the layers of the LSTM.
    dropout_place : {"before", "after"}
        Whether the "dense" head applies dropout before or after its hidden layers.
    lstm_width : int
        Units of each of the two LSTM layers.
    bidirectional : bool
        Whether the LSTM reads in both directions.
    backbone : str
        Name of the timm model, for the kind "timm".
    weights : str or None
        Local file with pretrained weights of the timm model, or None for random weights. For the kind "ear"
        a file that `music-emotion ear` wrote, by default musicnn-msd.safetensors of the user's cache.
    trunk : str or None
        `model.safetensors` of the pretraining whose trunk this network starts from.
    """

    kind: Literal["conv", "lstm", "mlp", "timm", "ear"] = "conv"
    channels: Annotated[tuple[Channel, ...], EachOnce] = ("spectrogram", "frequency")
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


class ClassicalSection(Section):
    """An estimator on clip statistics, in place of a network.

    Attributes
    ----------
    kind : {"gp", "ridge", "svr", "svm", "boosting", "xgboost", "lightgbm"} or None
        For targets: Gaussian process, ridge regression or SVR. For genres: SVM. Both support vector
        machines have a Gaussian kernel. For either: boosted trees by scikit-learn, XGBoost or LightGBM
        (the latter two in the extra `classical`). None trains the network.
    alpha : float
        Ridge: weight of the penalty.
    c : float
        SVR, SVM: weight of errors.
    gamma : float
        SVR, SVM: kernel coefficient, in multiples of one over the number of statistics that vary.
    rounds : int
        Trees: number of trees per target or class.
    learning_rate : float
        Trees: shrinkage of each tree's contribution.
    leaves : int
        Trees: largest number of leaves of a tree.
    depth : int or None
        Trees: largest depth; None for no limit.
    leaf_clips : int
        Trees: fewest clips in a leaf (XGBoost: smallest sum of their weights). Trees need at least twice as
        many training clips.
    feature_share, clip_share : float
        Trees: share of the statistics drawn for each split, and of the clips drawn for each tree; above 0,
        at most 1. "boosting" uses all clips.
    l2 : float
        Trees: L2 penalty of leaf values.
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
    """Data augmentation of training batches.

    Attributes
    ----------
    equaliser : float or None
        FilterAugment: standard deviation of the random gain curve over mel bands, in deviations of a row.
    row_shift : int
        Largest shift of mel bands up or down, in rows.
    style_mixing : float
        MixStyle: share of batches in which excerpts mix their mean and deviation over time, per mel
        band, with those of other excerpts.
    frequency_masks : tuple of int or None
        SpecAugment: number of frequency masks per excerpt, and their largest width in rows.
    time_masks : tuple of int or None
        SpecAugment: number of time masks per excerpt, and their largest width in frames.
    mixup : float or None
        mixup: both parameters of the Beta distribution of the mixing weight.
    mixup_bandwidth : float or None
        C-Mixup: bandwidth of the kernel that prefers partners of similar values, in deviations over the
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
    """The training loss.

    Attributes
    ----------
    squared : float
        Weight of the squared error; above 0 for emotion, since the other terms ignore scale.
    pearson : float
        Weight of 1 - Pearson correlation over the batch.
    pairwise : float
        Weight of RankNet's logistic loss over all pairs of the batch.
    soft_rank : float
        Weight of 1 - a differentiable Spearman correlation over the batch.
    target_weights : tuple of float
        Weight of each target; if empty, equal weights.
    standardise : bool
        Standardise targets with the mean and standard deviation of the training clips.
    rank_normal : bool
        Learn the normal score of each target's rank among the training clips instead. Predictions are
        mapped back to the target's units.
    class_weights : {"balanced"} or None
        Genre: weight classes by their inverse frequency.
    genre : float
        Emotion: weight of the cross-entropy of a second head, which predicts genres for as many
        excerpts of the genre set in every update. `class_weights` applies to it.
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
        Name of a timm optimiser.
    learning_rate : float
        The peak learning rate.
    momentum : float
        For optimisers that have it, such as "sgd" (Nesterov's) and "momentum" (plain).
    weight_decay : float
        Applied to weights only, unless `decay_all`.
    decay_all : bool
        Also decay biases and normalisation, as plain torch optimisers do.
    schedule : {"one-cycle", "cosine", "constant"}
        Schedule of the learning rate over all updates.
    warmup : float
        Share of all updates, 0 to 1, in which the learning rate rises.
    clip_norm : float or None
        Largest norm of the gradient; larger ones are scaled down.
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
    """Epochs, batches, and which weights are kept.

    Attributes
    ----------
    epochs : int
        Passes over the training clips. Each clip gives `excerpt.per_clip` excerpts.
    batch_size : int
        Excerpts per update, over all processes together.
    ema : float or None
        Largest decay of the exponential moving average (EMA) of the weights.
    valid_every : int
        Number of epochs between validations. The last epoch is always validated.
    select : {"last", "best-loss", "best-score"}
        Which epoch's weights are kept. The best epoch on validation inflates the validation score,
        which is then marked `selected on validation`.
    patience : int or None
        Stop after this many validations without improvement. Needs a best epoch.
    keep_last : bool
        Also test the weights of the last epoch (`test-last.csv` of every fold). Needs a best epoch.
    frozen_epochs : int
        Number of first epochs in which only the head learns. Needs a trunk or weights.
    probe : float
        Linear probing: penalty of the ridge regression on the trunk's features that sets a linear head before
        training. 0 starts from a random head. Needs a trunk or weights.
    """

    epochs: Positive = 60
    batch_size: Positive = 24
    ema: Annotated[float | None, Field(gt=0, lt=1), Off] = 0.998
    valid_every: Positive = 5
    select: Literal["last", "best-loss", "best-score"] = "last"
    patience: Annotated[Positive | None, Off] = None
    keep_last: bool = False
    frozen_epochs: Count = 0
    probe: NotNegative = 0.0


class PseudoSection(Section):
    """Pseudo-labels: a second round that also trains on the predictions of other runs, the teachers.

    Fold k of a seed uses the predictions of each teacher's fold k of the same seed. Teachers and student
    are all trained without the clips that this fold is scored on.

    Attributes
    ----------
    teachers : tuple of str
        Directories of finished emotion runs with the same clips, seeds and folds, such as
        "runs/multitask"; if empty, no second round. An estimator may read `data.embeddings`, for "genre"
        from tables with "{task}" in their names.
    clips : tuple of {"test", "genre"}
        Which clips get pseudo-labels: the emotion set's test split, and all clips of the genre set.
    labelled_repeats : int
        How often each labelled clip appears in an epoch, to balance many pseudo-labels.
    """

    teachers: tuple[str, ...] = ()
    clips: Annotated[tuple[Unlabelled, ...], EachOnce] = ("test", "genre")
    labelled_repeats: Positive = 1


class DistilSection(Section):
    """Distillation: the network learns what a pretrained network, such as the ear, makes of its clips.

    Attributes
    ----------
    tables : tuple of str
        CSVs of `music-emotion embed`, or others with a column `id`. "{split}" stands for train and test,
        "{task}" for emotion and genre. If empty, no distillation.
    columns : tuple of str
        Columns to learn, as patterns such as "msd-penultimate:*"; if empty, all.
    weight : float
        Weight of the mean squared error of the standardised columns in the loss.
    labels : bool
        Whether the labels are learnt, too. If not, `music-emotion pretrain` learns the columns alone, from
        all arrays of the emotion and the genre set that have a row, whatever their split.
    spans : bool
        Whether the tables have rows of spans (`music-emotion embed --span`), from which excerpts are then
        cut, so that an excerpt learns what the pretrained network makes of the same seconds. Needs `labels`
        false.
    """

    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    weight: AboveZero = 0.5
    labels: bool = True
    spans: bool = False


class Experiment(Section):
    """All settings of a run that are independent of the machine.

    Attributes
    ----------
    name : str
        Name of the run's directory, `runs/<name>`.
    task : {"emotion", "genre"}
        Predict targets or classify genres.
    seeds : tuple of int
        Random seeds. All folds are trained once per seed.
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
    distil: DistilSection = DistilSection()

    @property
    def is_classical(self) -> bool:
        """Whether an estimator on clip statistics replaces the network."""
        return self.classical.kind is not None

    @property
    def has_repeats(self) -> bool:
        """Whether each seed has one training, validation and test split instead of folds."""
        return self.folds.split != "folds" or self.data.windows is not None

    @property
    def selects_on_validation(self) -> bool:
        """Whether the network's epoch is selected on the validation clips, which are also scored."""
        return self.train.select != "last" and not self.is_classical

    @property
    def starts_pretrained(self) -> bool:
        """Whether the network starts from a pretrained trunk or pretrained weights."""
        model = self.model
        return model.kind == "ear" or model.trunk is not None or model.weights is not None

    @model_validator(mode="after")
    def _check_input(self) -> Self:
        data, model, whole = self.data, self.model, self.excerpt.frames is None
        if re.search("[\ud800-\udfff]", json.dumps(self.model_dump(), ensure_ascii=False)):
            raise ValueError("a setting is not UTF-8, which model files need. Rename the folder or file.")
        scaled = (n for n in ("frequency_masks", "time_masks", "equaliser") if getattr(self.augment, n))
        if not data.normalise and (name := next(scaled, None)):
            raise ValueError(
                f"augment.{name} needs normalised rows. Set it to false, or data.normalise to true."
            )
        if data.windows is None and data.statistics and model.kind != "mlp" and not self.is_classical:
            raise ValueError(
                f"data.statistics is one vector per clip, which model.kind '{model.kind}' can't read. "
                f"Give 'mlp' with excerpt.frames 1, or a classical.kind."
            )
        reads_mel = data.of_layout and data.rows != "chroma" and data.rate == "full"
        if model.kind == "ear" and not self.is_classical and not reads_mel:
            raise ValueError(
                "model.kind 'ear' reads the mel rows of full-rate arrays. Give data.rows 'mel', data.rate "
                "'full', and no data.statistics, data.embeddings or data.windows."
            )
        if data.embeddings and (data.windows or not (data.statistics or self.is_classical)):
            raise ValueError("data.embeddings need a classical.kind or data.statistics, and no data.windows.")
        can_join = self.task == "emotion" and data.of_layout and data.more and not self.is_classical
        if (data.more or data.map) and (not can_join or self.pseudo.teachers or self.distil.tables):
            raise ValueError(
                "data.more and data.map join sets of emotion arrays for a network. Give the task 'emotion', "
                "data.more, and no data.statistics, data.embeddings, data.windows, classical.kind, "
                "pseudo.teachers or distil.tables."
            )
        if len({data.root, *data.more}) <= len(data.more):
            raise ValueError("data.root and data.more name a set twice. Give each once.")
        if data.more and self.augment.mixup_bandwidth:
            raise ValueError(
                "augment.mixup_bandwidth needs all targets of all clips. Set it to false beside data.more."
            )
        if data.windows is not None and self.task != "genre":
            raise ValueError("data.windows holds genres in labels.npy. Give the task 'genre'.")
        if whole and (model.kind == "mlp" or (model.kind == "conv" and model.readout == "flatten")):
            fixing = "kind 'mlp'" if model.kind == "mlp" else "readout 'flatten'"
            raise ValueError(f"model.{fixing} reads one length, but excerpt.frames is false. Give a number.")
        return self

    @model_validator(mode="after")
    def _check_training(self) -> Self:
        train, loss, is_emotion = self.train, self.loss, self.task == "emotion"
        if train.select == "last" and (train.patience or train.keep_last):
            name = "patience" if train.patience else "keep_last"
            raise ValueError(
                f"train.{name} needs train.select 'best-score' or 'best-loss'. Give one of them."
            )
        if train.keep_last and not self.has_repeats:
            raise ValueError(
                "train.keep_last tests on labelled clips. Give folds.split 'holdout' or 'published'."
            )
        if train.frozen_epochs and not self.starts_pretrained:
            raise ValueError("train.frozen_epochs freezes random weights. Give model.trunk or model.weights.")
        if train.probe and not (self.starts_pretrained and self.model.head == "linear" and is_emotion):
            raise ValueError(
                "train.probe sets the linear head of an emotion network on a trained trunk. Give model.trunk "
                "or model.weights, and model.head 'linear'."
            )
        if loss.rank_normal and not loss.standardise:
            raise ValueError("loss.rank_normal needs standardised targets. Give loss.standardise true.")
        if is_emotion and loss.squared == 0:
            raise ValueError(
                "loss.squared is 0, but the other losses ignore the scale of predictions, so folds could not "
                "be pooled. Give loss.squared a small weight, such as 0.1."
            )
        learns_arrays = self.data.of_layout and not self.is_classical and self.excerpt.frames is not None
        if self.distil.spans and self.distil.labels:
            raise ValueError("distil.spans learns no labels. Give distil.labels false, or no distil.spans.")
        if not self.distil.labels and not self.distil.tables:
            raise ValueError("distil.labels is false, so there is nothing to learn. Give distil.tables.")
        if self.distil.tables and (not (is_emotion and learns_arrays) or loss.genre or self.pseudo.teachers):
            raise ValueError(
                "distil.tables are for an emotion network on excerpts of arrays. Give no classical.kind, "
                "data.windows, data.statistics, data.embeddings, loss.genre or pseudo.teachers beside them."
            )
        if loss.genre and not (is_emotion and learns_arrays):
            raise ValueError(
                "loss.genre gives an emotion network a second head for genre excerpts. Set it to 0, or "
                "give task 'emotion', excerpt.frames and no classical.kind, data.windows or data.statistics."
            )
        return self

    @model_validator(mode="after")
    def _check_estimator_and_teachers(self) -> Self:
        kind, fitting, teachers = self.classical.kind, _ESTIMATORS[self.task], self.pseudo.teachers
        if kind is not None and kind not in fitting:
            raise ValueError(f"classical.kind '{kind}' can't do {self.task}. Give {', '.join(fitting)}.")
        if kind == "boosting" and self.classical.clip_share < 1:
            raise ValueError("classical.kind 'boosting' fits all clips. Give classical.clip_share 1.")
        if kind is not None and self.data.rate == "beat":
            raise ValueError(f"classical.kind '{kind}' needs frames of equal length. Give data.rate 'full'.")
        if kind is not None and self.starts_pretrained:
            raise ValueError(f"classical.kind '{kind}' has no use for model.trunk or weights. Remove them.")
        if teachers and (self.task != "emotion" or self.has_repeats or not self.data.of_layout or kind):
            raise ValueError(
                "pseudo.teachers give a network targets of unlabelled arrays, fold by fold. Give the task "
                "'emotion', folds.split 'folds' and no data.statistics, data.windows or classical.kind, or "
                "no teachers. An estimator can be a teacher."
            )
        return self


def build_experiment(differences: dict[str, Any], place: str) -> Experiment:
    """Build an experiment from its differences from the defaults.

    Parameters
    ----------
    differences : dict
        Nested like `Experiment`.
    place : str
        Source of the settings, for error messages.

    Raises
    ------
    InputError
        For an unknown key, a value of the wrong type, settings that exclude each other, or a path that is
        not UTF-8.
    """
    return checked(Experiment, differences, place)


def experiment_to_dict(experiment: Experiment) -> dict[str, Any]:
    """Convert an experiment to the plain values of `experiment.json`."""
    return experiment.model_dump(mode="json")


def differing_keys(one: dict[str, Any], other: dict[str, Any], above: str = "") -> list[str]:
    """Find the dotted keys whose values differ between two results of `experiment_to_dict`.

    Parameters
    ----------
    one, other : dict
        Results of `experiment_to_dict`.
    above : str
        Prefix of all keys, for nested sections.

    Returns
    -------
    list of str
        Keys such as "optim.learning_rate".
    """
    keys: list[str] = []
    for key in sorted(one.keys() | other.keys()):
        left, right = one.get(key, ...), other.get(key, ...)
        if isinstance(left, dict) and isinstance(right, dict):
            keys += differing_keys(left, right, f"{above}{key}.")
        elif left != right:
            keys.append(f"{above}{key}")
    return keys
