"""Distillation: embeddings learnt without labels, and the auxiliary head that learns them beside targets."""

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import call

from music_emotion.datasets.clip_set import load_clip_set, load_embedded
from music_emotion.datasets.splits import Fold, folds_of_pretraining
from music_emotion.experiment_files import experiment_toml
from music_emotion.files import InputError
from music_emotion.models.card import read_card
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets, make_network, run_experiment
from music_emotion.training.loop import Trainer
from music_emotion.training.objectives import load_second

SIZES = {("emotion", "train"): 40, ("emotion", "test"): 8, ("genre", "train"): 32, ("genre", "test"): 12}


pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture(scope="module")
def tables(small, tmp_path_factory) -> str:
    """Tables of all four splits: two columns that arrays hold, one constant, one of a family of its own."""
    folder = tmp_path_factory.mktemp("tables")
    for task, split in SIZES:
        data = small().data.model_copy(update={"genres": {}})  # all raw classes
        clips = load_clip_set(data, task, split)
        levels = [clips.store.frames_of(clip_id)[:, :80].mean(axis=0) for clip_id in clips.ids]
        table = {"id": clips.ids, "ear-mean:0": [each[:40].mean() for each in levels]}
        table |= {"ear-mean:1": 7.0, "ear-mean:2": [each[40:].mean() for each in levels]}
        table |= {"tags:rock": np.random.default_rng(0).random(len(clips))}
        pd.DataFrame(table).sample(frac=1, random_state=1).to_csv(folder / f"{task}-{split}.csv", index=False)
    return str(folder / "{task}-{split}.csv")


def distilling(small, tables, labels, **sections):
    distil = {"tables": [tables], "columns": ["ear-*"], "labels": labels}
    return small(distil=distil, **sections)


def test_every_split_with_a_table_is_learnt_without_labels(small, tables):
    experiment = distilling(small, tables, labels=False)
    clips = load_embedded(experiment.data, experiment.distil)
    assert clips.outputs == ("ear-mean:0", "ear-mean:2")  # the column between them is constant
    assert len(clips) == sum(SIZES.values())
    for clip_id, values in zip(clips.ids, clips.values, strict=True):
        frames = clips.store.frames_of(clip_id).astype(np.float64)
        np.testing.assert_allclose(values, [frames[:, :40].mean(), frames[:, 40:80].mean()], atol=0.05)
    emotion = distilling(small, tables.replace("{task}", "emotion"), labels=False)
    assert len(load_embedded(emotion.data, emotion.distil)) == 48
    (fold,) = folds_of_pretraining(experiment, clips, clips)
    assert len(fold.valid) == 10
    assert sorted([*fold.training.ids, *fold.valid.ids]) == clips.ids.tolist()


def test_spans_are_cut_from_the_arrays_of_their_clips_and_held_out_with_them(small, tmp_path):
    data = small().data
    clips = load_clip_set(data, "emotion", "train")
    rows = [(1000 * clip_id + n, n / 4, n / 4 + 0.5) for clip_id in clips.ids for n in range(3)]
    table = pd.DataFrame(rows, columns=["id", "start_seconds", "end_seconds"])
    frames = {
        i: clips.store.frames_of(i // 1000)[round(a * 22050 / 512) : round(b * 22050 / 512)]
        for i, a, b in rows
    }
    table["ear:0"] = [frames[i].astype(float).mean() for i in table["id"]]
    table.to_csv(tmp_path / "spans.csv", index=False)
    experiment = small(distil={"tables": [str(tmp_path / "spans.csv")], "labels": False, "spans": True})
    spans = load_embedded(experiment.data, experiment.distil)
    assert spans.ids.tolist() == sorted(frames)
    for span_id, (value,) in zip(spans.ids, spans.values, strict=True):
        np.testing.assert_array_equal(spans.store.frames_of(span_id), frames[span_id])
        assert value == pytest.approx(frames[span_id].astype(float).mean(), rel=1e-4)
    (fold,) = folds_of_pretraining(experiment, spans, spans)
    held, learnt = ({*(each.ids // 1000)} for each in (fold.valid, fold.training))
    assert (len(held), len(learnt), held & learnt) == (4, 36, set())
    table.assign(id=table["id"] + 10**6).to_csv(tmp_path / "spans.csv", index=False)
    with pytest.raises(InputError, match=r"spans\.csv has no spans of these clips\. Make it with .* --span"):
        load_embedded(experiment.data, experiment.distil)
    with pytest.raises(InputError, match=r"distil\.spans learns no labels"):
        small(distil={"tables": ["x.csv"], "spans": True})


def test_a_trunk_that_learnt_embeddings_starts_a_network_on_the_same_clips(
    small, tables, tmp_path, monkeypatch
):
    """Through the commands; the student's saved model knows nothing of the second head."""
    monkeypatch.chdir(tmp_path)
    alone = distilling(small, tables, labels=False, name="alone", train={"epochs": 5, "ema": None})
    trunk = "runs/alone/seed0/fold0/model.safetensors"
    student = distilling(
        small, tables, labels=True, name="student", model={"trunk": trunk}, train={"epochs": 1}
    )
    for experiment in (alone, student):
        (tmp_path / f"{experiment.name}.toml").write_text(experiment_toml(experiment))
    assert call("pretrain.py", "alone.toml") == 0
    assert read_card(tmp_path / trunk).outputs == ("ear-mean:0", "ear-mean:2")
    learnt = pd.read_csv("runs/alone/seed0/fold0/metrics.csv")
    assert learnt["score"].iloc[-1] > 0.4
    assert call("train.py", "student.toml", "--only-fold", "0") == 0
    model = tmp_path / "runs/student/seed0/fold0/model.safetensors"
    assert read_card(model).outputs == ("valence", "energy", "danceability")
    assert pd.read_csv(model.with_name("metrics.csv"))["distil_loss"].iloc[-1] < 3
    assert call("train.py", "alone.toml") == 2
    assert call("pretrain.py", "student.toml") == 2


def test_the_second_head_reads_the_same_excerpts_and_its_own_values(small, tables, tmp_path):
    """The loss of embeddings reaches the trunk, but not the head of the targets."""
    plain = {"equaliser": None, "frequency_masks": None, "time_masks": None, "mixup": None}
    experiment = distilling(small, tables, labels=True, augment=plain, model={"dropout": 0})
    clips, _ = load_sets(experiment, make_accelerator())
    second = load_second(experiment, make_accelerator())
    fold = Fold(0, 0, clips.select(np.arange(1, 40, 2)), clips)
    network = make_network(experiment, fold.training, 0)
    trainer = Trainer(network, fold, make_accelerator(), tmp_path, second)
    batch = next(iter(trainer.loader))
    losses = trainer._losses(batch)
    features = network.features(batch["frames"], batch["lengths"])
    known = second.truth.loc[batch["ids"].tolist()].to_numpy()
    of_fold = second.truth.loc[fold.training.ids]
    standardised = torch.tensor((known - of_fold.mean().to_numpy()) / of_fold.std(ddof=0).to_numpy())
    expected = (trainer.learner.second_head(features) - standardised.float()).square().mean()
    torch.testing.assert_close(losses["distil_loss"], expected, rtol=1e-4, atol=1e-4)
    expected = trainer.objective.loss(network.head(features), batch["values"][:, :3])
    torch.testing.assert_close(losses["train_loss"], expected)
    losses["distil_loss"].backward()
    assert all(weights.grad is None for weights in network.head.parameters())
    assert all(weights.grad.abs().sum() > 0 for weights in network.trunk.parameters())


def test_tables_that_do_not_fit_are_refused(small, tables, tmp_path):
    missing = distilling(small, str(tmp_path / "no-{split}.csv"), labels=False)
    with pytest.raises(InputError, match=r"no such tables\. Make them with music-emotion embed"):
        load_embedded(missing.data, missing.distil)
    short = tmp_path / "short.csv"
    pd.read_csv(tables.format(task="emotion", split="train")).head(30).to_csv(short, index=False)
    of_fewer = distilling(small, str(short), labels=True)
    with pytest.raises(InputError, match=r"short\.csv: 10 of 40 clips have no row"):
        run_experiment(of_fewer, make_accelerator(), tmp_path / "runs" / "x")
    with pytest.raises(InputError, match=r"distil\.labels is false, so there is nothing to learn"):
        small(distil={"labels": False})
    with pytest.raises(InputError, match=r"distil\.tables are for an emotion network on excerpts of arrays"):
        distilling(small, tables, labels=True, classical={"kind": "ridge"})
