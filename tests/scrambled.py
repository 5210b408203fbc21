"""Folds whose first one has other labels to validate with."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import Fold


def with_scrambled_labels(folds: Sequence[Fold], clips: ClipSet) -> tuple[list[Fold], ClipSet]:
    """The same folds and clips, where the first fold's validation clips have one another's labels."""
    held_out = np.isin(clips.ids, folds[0].valid.ids)
    values = clips.values.copy()
    values[held_out] = np.random.default_rng(0).permutation(values[held_out])
    scrambled = replace(clips, values=values)

    def same(part: ClipSet) -> ClipSet:
        return scrambled.select(np.isin(clips.ids, part.ids))

    return [replace(f, training=same(f.training), valid=same(f.valid)) for f in folds], scrambled
