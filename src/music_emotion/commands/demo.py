"""The whole pipeline on synthesised music, from audio to a checked submission and a Kaggle bundle."""

import time
from pathlib import Path
from typing import Any

from music_emotion.audio.settings import FeatureSettings
from music_emotion.commands.audio import extract
from music_emotion.commands.evaluation import blend, submit
from music_emotion.commands.training import TrainingFlags, pretrain, train
from music_emotion.config import DataSection, Experiment, ModelSection, TrainSection
from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.datasets.statistics_table import array_statistics
from music_emotion.datasets.synthesis import write_demo
from music_emotion.files import InputError, alone_at, read_json, write_json
from music_emotion.kaggle.bundle import package


def demo(
    *,
    out: Path = Path("demo"),
    clips: int = 160,
    seconds: float = 10.0,
    genre_epochs: int = 20,
    epochs: int = 40,
    seed: int = 0,
    shuffle_labels: bool = False,
) -> None:
    """Synthesise music, extract, pretrain, train folds, blend, and write a submission and a bundle.

    Parameters
    ----------
    out
        Folder for everything the demo writes. Interrupted, the same command continues.
    clips
        Number of labelled emotion clips. There are a quarter as many test clips, and as many genre clips.
    seconds
        Length of a clip.
    genre_epochs
        Epochs of the genre training.
    epochs
        Epochs of the emotion training.
    seed
        Seed of the music, the folds and the networks.
    shuffle_labels
        Shuffle the labels among the clips, so that nothing can be learned and scores fall to chance.
    """
    with alone_at(out, "give another --out"):
        started = time.perf_counter()
        size = {"clips": clips, "seconds": seconds, "seed": seed, "shuffle_labels": shuffle_labels}
        # another number for other music: audio of an earlier version would get the labels of this one
        _claim(out, size | {"genre_epochs": genre_epochs, "epochs": epochs, "music": 2})
        music, data, runs = out / "audio", out / "data", out / "runs"
        write_demo(music, (clips, clips // 4, clips * 3 // 4, clips // 4), seconds, seed, shuffle_labels)
        for task in ("emotion", "genre"):
            for split in ("train", "test"):
                extract(music / f"{task}_{split}.csv", out=data, split=split, task=task)
        common = {"seeds": (seed,), "data": DataSection(root=str(data), stores=str(out / "stores"))}
        flags = TrainingFlags(runs)
        genre = Experiment(**common, train=TrainSection(epochs=genre_epochs))
        pretrain(Path("demo-pretrain"), experiment=genre, flags=flags)
        trunk = ModelSection(
            trunk=str(runs / "demo-pretrain" / f"seed{seed}" / "fold0" / "model.safetensors")
        )
        emotion = Experiment(**common, model=trunk, train=TrainSection(epochs=epochs))
        train(Path("demo-multitask"), experiment=emotion, flags=flags)
        blend(runs / "demo-multitask", name="demo-blend", runs=runs)
        submit(runs / "demo-blend", out=out / "submissions", overwrite=True)
        package(runs / "demo-blend", owner="you", competition="the-competition", out=out / "build")
        _report(emotion.data, runs, out)
        print(f"{time.perf_counter() - started:.0f} seconds in all.")


def _claim(out: Path, size: dict[str, Any]) -> None:
    """Refuse a folder that holds a demo of another size."""
    path = out / "demo.json"
    if path.exists() and read_json(path) != size:
        raise InputError(f"{out} holds a demo with {read_json(path)}. Give another --out, or delete it.")
    write_json(path, size)


def _report(data: DataSection, runs: Path, out: Path) -> None:
    """Print scores beside those of the best single statistic."""
    clips = load_clip_set(data, "emotion", "train")
    statistics = array_statistics(clips.store, clips.ids, FeatureSettings())
    statistics = statistics.loc[:, statistics.nunique() > 1]  # constant ones have no rank correlation
    pooled = read_json(runs / "demo-multitask" / "scores.json")["pooled"]
    genre = read_json(runs / "demo-pretrain" / "scores.json")["pooled"]
    print(f"\n{'target':<14} {'network, out-of-fold':>26}   best single statistic of a clip")
    for target, values in clips.truth.items():
        score, rivals = pooled[target], statistics.corrwith(values, method="spearman").abs()
        interval = f"[{score['low']:.2f}, {score['high']:.2f}]"
        print(f"{target:<14} {score['value']:>9.3f} {interval:>16}   {rivals.max():.3f} ({rivals.idxmax()})")
    print(f"genre macro F1 on the test split: {genre['macro_f1']['value']:.3f}\n")
    print(f"Everything is in {out}.")
