"""Study files: the rows of a grid, what a search may propose, and what is refused before any work."""

import sys
from pathlib import Path

import pytest
import torch

from music_emotion.config import N_ROWS_OF
from music_emotion.files import InputError
from music_emotion.models.card import ModelCard
from music_emotion.models.network import Network
from music_emotion.study_file import read_study
from music_emotion.training.optimisation import make_optimizer

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
STUDIES = sorted((EXPERIMENTS / "studies").glob("*.toml"))


@pytest.fixture
def read(tmp_path):
    """Read a study of two small experiments: `read(text, flags)`."""

    def read_file(text: str, flags: dict | None = None, name: str = "small"):
        (tmp_path / "emotion.toml").write_text("train.epochs = 2\n")
        (tmp_path / "genres.toml").write_text('task = "genre"\ntrain.epochs = 2\n')
        (tmp_path / "study.toml").write_text(f'name = "{name}"\n{text}')
        return read_study(tmp_path / "study.toml", flags)

    return read_file


def grid(*lines: str) -> str:
    return "\n".join(['base = "emotion.toml"', "[[grid]]", *lines])


def search(space: str, more: str = "trials = 4") -> str:
    return f'base = "emotion.toml"\n[search]\n{more}\n[search.space]\n{space}\n'


def test_every_study_is_named_after_its_file_and_its_networks_can_be_built():
    assert len(STUDIES) >= 14
    for path in STUDIES:
        study = read_study(path)
        assert study.file.name == path.stem
        assert len(study.rows) >= 4 or (len(study.distributions) >= 2 and study.file.search.trials >= 20)
        for name, row in study.rows.items():
            assert name == row.name == row.experiment.name
            own, n_rows = row.experiment, N_ROWS_OF[row.experiment.data.rows]
            scale = ((0.0,) * n_rows, (1.0,) * n_rows, (0.0, 0.0), (1.0, 1.0))
            network = Network(ModelCard(own, ("valence", "energy"), *scale))
            make_optimizer(network, own.optim)
            frames = torch.zeros(2, n_rows, own.excerpt.frames)
            assert network(frames, torch.full((2,), own.excerpt.frames)).shape == (2, 2)


def test_a_grid_gives_all_combinations_of_each_of_its_tables(read):
    lines = ['"model.widths" = [[4, 8], [8]]', '"model.padded" = [true, false]']
    rows = list(read(grid(*lines, "[[grid]]", '"optim.learning_rate" = [1e-3]')).rows.values())
    assert [row.name for row in rows] == ["4x8-padded", "4x8-not-padded", "8-padded", "8-not-padded", "0.001"]
    assert rows[3].experiment.model.widths == (8,)
    assert rows[3].experiment.model.padded is False
    assert rows[4].experiment.train.epochs == 2  # of the experiment that is varied
    assert rows[4].experiment.optim.learning_rate == 1e-3


def test_flags_and_what_is_fixed_are_in_every_row_and_flags_count_more(read):
    fixed = '[fixed]\n"train.epochs" = 3\n"data.stores" = "there"\n"folds.groups" = "groups.csv"\n'
    text = f'pretrain = "genres.toml"\n{grid("x")}'.replace(
        "[[grid]]\nx", f'{fixed}[[grid]]\n"model.activation" = ["gelu", "relu"]'
    )
    study = read(text, {"data.genres": {}, "data.stores": "here"})
    assert set(study.rows) == {"gelu", "relu"}
    for row in study.rows.values():
        assert row.experiment.train.epochs == 3
        assert row.experiment.folds.groups == "groups.csv"
        trunk = row.trunk.experiment
        assert (row.trunk.name, row.trunk.is_trunk) == (f"{row.name}-genres", True)
        assert row.experiment.data.stores == trunk.data.stores == "here"
        assert trunk.data.genres == {}
        assert trunk.train.epochs == 2
        assert trunk.folds.groups != "groups.csv"  # whose clips are others
    with pytest.raises(InputError, match=r"model.activation is varied, and also set for all rows"):
        read(text, {"model.activation": "gelu"})


def test_proposals_are_rounded_numbers_whole_ones_and_choices(read):
    space = """"classical.leaves" = { low = 2, high = 64, log = true }
"classical.c" = { low = 1, high = 9 }
"model.widths" = [[4, 8], [8]]"""
    study = read(search(space))
    assert study.distributions["model.widths"].choices == ("4x8", "8")
    assert study.distributions["classical.leaves"].to_internal_repr(7) == 7
    row = study.proposed({"classical.leaves": 7, "classical.c": 1.23456, "model.widths": "8"})
    assert row.settings == {"classical.leaves": 7, "classical.c": 1.235, "model.widths": [8]}
    assert (row.name, row.experiment.model.widths) == ("7-1.235-8", (8,))
    assert type(row.settings["classical.leaves"]) is int
    assert type(study.distributions["classical.leaves"]).__name__ == "IntDistribution"
    assert type(study.distributions["classical.c"]).__name__ == "FloatDistribution"


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ('"classical.alhpa" = { low = 1, high = 2 }', "unknown key 'classical.alhpa'; did you mean 'alpha'"),
        ('"classical.alpha" = { low = 2, high = 1 }', "classical.alpha can't be searched: .*low"),
        ('"classical.alpha" = { low = -1, high = 1 }', "classical.alpha is -1"),
        ('"classical.alpha" = { low = 1, high = inf }', "finite number"),
        ('"classical.alpha" = { low = 1, hihg = 2 }', "can't be searched: .*hihg"),
        ('"classical.alpha" = []', "can't be searched: .*must contain one or more"),
        ('"classical.alpha" = 3', "search.space.classical.alpha.*input should be a valid list"),
        ('"classical.leaves" = { low = 2, high = 8.5 }', "classical.leaves is 8.5"),
        ('"data.rows" = { low = 0, high = 1 }', "data.rows is 0"),
        ('"data.rows" = ["mel", "mel"]', "can't be searched: it holds one of mel, mel twice"),
        ('"data.rows" = ["mel", "rows"]', "data.rows is 'rows'"),
        (
            '"train.patience" = [3, 5]\n"train.select" = ["best-loss", "last"]',
            "train.patience needs train.select",
        ),
        ("", "space is {}"),
    ],
)
def test_a_wrong_space_gets_a_sentence_before_any_work(read, space, sentence):
    with pytest.raises(InputError, match=sentence):
        read(search(space))


TRUNKS = ['"train.epochs" = [2]', '"model.widths" = [[8]]', "[[grid]]", '"excerpt.frames" = [8]']


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (grid('"model.knid" = ["conv"]'), "unknown key 'model.knid'"),
        (grid('"model.kind" = ["conv", "conv"]'), "gives the row conv twice"),
        ('base = "emotion.toml"\ngrid = []', "gives no rows"),
        (f'pretrain = "genres.toml"\n{grid(*TRUNKS)}', "different trunks of the one name 8-genres"),
        ("base = 3", "base is 3"),
        ('base = "emotion.toml"', r"either \[\[grid\]\] or \[search\], but this has neither"),
        (grid('"seeds" = [[0]]') + "\n" + search('"seeds" = [[0]]').partition("\n")[2], "but this has both"),
        (search('"seeds" = [[0]]', "trials = 0"), "trials is 0"),
        (search('"seeds" = [[0]]', "trails = 1"), "unknown key 'search.trails'; did you mean 'trials'"),
    ],
)
def test_a_wrong_study_gets_a_sentence_before_any_work(read, text, sentence):
    with pytest.raises(InputError, match=sentence):
        read(text)


def test_a_name_that_is_no_folder_is_refused(read):
    with pytest.raises(InputError, match=r"name is '\.\./x'; give a folder's name"):
        read(grid('"seeds" = [[0]]'), name="../x")


def test_without_optuna_there_is_a_sentence_for_searches(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna.distributions", None)
    assert len(read(grid('"seeds" = [[0]]')).rows) == 1
    with pytest.raises(InputError, match=r"pip install 'music-emotion\[study\]'"):
        read(search('"seeds" = [[0]]'))
