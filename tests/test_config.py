import tomllib
from pathlib import Path
from typing import get_args

import pytest

from music_emotion.config import Experiment, build_experiment, differing_keys, experiment_to_dict
from music_emotion.experiment_files import find_experiment, read_differences
from music_emotion.files import InputError

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
RESEARCH = EXPERIMENTS.parent / "research" / "experiments"
ABLATIONS = sorted((EXPERIMENTS / "ablations").glob("*.toml"))
FILES = [*sorted(EXPERIMENTS.glob("*.toml")), *ABLATIONS, *sorted(RESEARCH.glob("*.toml"))]


def test_every_experiment_file_reads_back_as_itself_and_is_named_after_its_file():
    assert len(FILES) >= 10
    for path in FILES:
        experiment = build_experiment(read_differences(path), str(path))
        assert experiment.name == path.stem
        assert build_experiment(experiment_to_dict(experiment), "there") == experiment


def test_an_ablation_changes_one_key_of_ablation_default_or_of_an_ablation_it_goes_on_from():
    def resolved(path: Path) -> dict:
        return experiment_to_dict(build_experiment(read_differences(path), str(path)))

    assert len(ABLATIONS) >= 10
    for path in ABLATIONS:
        base = tomllib.loads(path.read_text())["base"]
        changed = set(differing_keys(resolved(path), resolved(find_experiment(base)))) - {"name"}
        if path.stem == "ablation-default":
            assert (base, changed) == ("multitask", {"augment.equaliser", "train.epochs"})
        else:
            assert (base.startswith("ablation-"), len(changed)) == (True, 1), path
        assert not {"data.root", "data.stores", "folds.groups"} & changed


SECOND_HEAD = "loss.genre gives an emotion network a second head"
SVR = "[classical]\nkind = 'svr'\n"
TEACHERS = "[pseudo]\nteachers = ['a']\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("modle = 1", r"unknown key 'modle'; did you mean 'model'\?"),
        ("[train]\nepochs = 0", "train.epochs is 0; input should be greater than or equal to 1"),
        ("[optim]\nlearning_rate = nan", "optim.learning_rate is nan"),
        ("seeds = []", r"seeds is \[\]; give at least one, each once"),
        ("seeds = [1, 1]", "each once"),
        ("name = 'a/b'", "give a folder's name"),
        ("[train]\npatience = 3", "train.patience needs train.select 'best-score' or"),
        ("[train]\nselect = 'best-loss'\nkeep_last = true", "Give folds.split 'holdout'"),
        ("[train]\nfrozen_epochs = 3", "Give model.trunk or model.weights"),
        ("[model]\nreadout = 'flatten'\n[excerpt]\nframes = false", "'flatten' reads one length"),
        ("[model]\nwidths = []", "model.widths is .* at least 1 item"),
        ("[loss]\nsquared = 0\npairwise = 1", r"ignore the scale.*small weight, such as 0\.1"),
        ("[loss]\nsoft_rank = -1", "loss.soft_rank is -1; input should be greater than or equal to 0"),
        ("[loss]\nrank_normal = true\nstandardise = false", r"Give loss.standardise true"),
        ("task = 'genre'\n[loss]\ngenre = 1", SECOND_HEAD),
        (f"{SVR}[loss]\ngenre = 1", SECOND_HEAD),
        ("[loss]\ngenre = 1\n[excerpt]\nframes = false", SECOND_HEAD),
        ("[loss]\ngenre = 1\n[data]\nstatistics = 'a'\n[model]\nkind = 'mlp'", SECOND_HEAD),
        ("[data]\nnormalise = false", "augment.frequency_masks needs normalised rows"),
        (
            "[data]\nnormalise = false\n[augment]\nfrequency_masks = false\ntime_masks = false",
            "augment.equaliser needs normalised rows. Set it to false",
        ),
        ("[data]\nstatistics = 'a'", "data.statistics is one vector per clip, which model.kind 'conv'"),
        ("[model]\nkind = 'ear'\n[data]\nrate = 'beat'", "'ear' reads the mel rows of full-rate arrays"),
        ("[data]\nembeddings = ['a']", "data.embeddings need a classical.kind"),
        ("[data]\nwindows = 'a'", "data.windows holds genres .* Give the task 'genre'"),
        ("[data]\nmore = ['a']\nstatistics = 'a'\n[model]\nkind = 'mlp'", "data.more and data.map join sets"),
        ("[data.map]\na = 'b'", "data.more and data.map join sets"),
        (f"{SVR}[data]\nmore = ['a']", "data.more and data.map join sets .* classical.kind"),
        ("[data]\nmore = ['data']", "name a set twice"),
        (
            "[data]\nmore = ['a']\n[augment]\nmixup_bandwidth = 1.0",
            "augment.mixup_bandwidth needs all targets",
        ),
        ("[pseudo]\nteacher = ['a']", r"unknown key 'pseudo.teacher'; did you mean 'teachers'\?"),
        ("[pseudo]\nclips = []", r"pseudo.clips is \[\]; give at least one"),
        (f"task = 'genre'\n{TEACHERS}", "pseudo.teachers give .* task 'emotion'"),
        (f"[folds]\nsplit = 'holdout'\n{TEACHERS}", "pseudo.teachers .* folds.split 'folds'"),
        (f"{SVR}{TEACHERS}[data]\nstatistics = 'a'", "pseudo.teachers give .* no data.statistics"),
        (f"{SVR}{TEACHERS}", "pseudo.teachers give .* or classical.kind.* can be a teacher"),
        ("[classical]\nkind = 'rigde'", r"classical.kind is 'rigde'; .*did you mean 'ridge'\?"),
        (f"{SVR}c = 0", "classical.c is 0; input should be greater than 0"),
        ("task = 'genre'\n[classical]\nkind = 'ridge'", "'ridge' can't do genre"),
        ("[classical]\nkind = 'boosting'\nclip_share = 0.5", "'boosting' fits all clips"),
        (f"{SVR}[data]\nrate = 'beat'", "'svr' needs frames of equal length.*data.rate 'full'"),
        (f"{SVR}[model]\ntrunk = 'a'", "'svr' has no use for model.trunk or weights"),
    ],
)
def test_a_wrong_file_gets_a_sentence_that_names_it(tmp_path, text, sentence):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"wrong\.toml.* {sentence}|wrong\.toml: {sentence}"):
        read_differences(path)


def test_genre_needs_no_squared_error():
    differences = {"task": "genre", "loss": {"squared": 0}}
    assert build_experiment(differences, "here").loss.squared == 0


def test_false_switches_an_optional_setting_off(tmp_path):
    path = tmp_path / "off.toml"
    optional = [
        (name, key)
        for name, section in Experiment.model_fields.items()
        if name not in {"name", "task", "seeds"}
        for key, setting in section.annotation.model_fields.items()
        if type(None) in get_args(setting.annotation)
    ]
    assert len(optional) >= 15
    for section, key in optional:
        path.write_text(f"[{section}]\n{key} = false")
        experiment = build_experiment(read_differences(path), "here")
        assert getattr(getattr(experiment, section), key) is None
        assert experiment == build_experiment({section: {key: "false"}}, "as a flag")


def test_an_experiment_starts_from_its_base(tmp_path):
    far = "base = 'multitask'\nseeds = [1, 2]\n[model]\nkernel = 5\n[data]\ngenres = {a = 'b'}"
    (tmp_path / "far.toml").write_text(far)
    near = "base = 'far.toml'\nname = 'near'\n[model]\nwidths = [8]\n[data]\ngenres = {}"
    (tmp_path / "near.toml").write_text(near)
    experiment = build_experiment(read_differences(tmp_path / "near.toml"), "here")
    assert (experiment.name, experiment.seeds, experiment.data.genres) == ("near", (1, 2), {})
    assert (experiment.model.widths, experiment.model.kernel) == ((8,), 5)


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ("'one.toml'", r"one\.toml is based on itself"),
        ("'other.toml'", r"one\.toml is based on itself\. Remove base from one of .*one.*other"),
        ("'mutlitask'", r"experiment mutlitask does not exist, .*did you mean 'multitask'\?"),
        ("3", r"one\.toml: base is 3; name an experiment or a file"),
    ],
)
def test_a_base_that_leads_nowhere_is_refused(tmp_path, base, sentence):
    (tmp_path / "one.toml").write_text(f"base = {base}")
    (tmp_path / "other.toml").write_text("base = 'one.toml'")
    with pytest.raises(InputError, match=sentence):
        read_differences(tmp_path / "one.toml")


def test_built_in_experiments_are_found_by_name_and_files_come_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_experiment("ablation-default").parent.name == "ablations"
    assert find_experiment("activations").parent.name == "studies"
    Path("gp").write_text("name = 'mine'")
    assert read_differences("gp") == {"name": "mine"}
    for name in ("transferr", "none.toml", "a" * 300, "a\0b"):
        with pytest.raises(InputError, match="does not exist, as a file or by name"):
            find_experiment(name)


def test_a_setting_that_model_files_could_not_keep_is_refused_before_training():
    with pytest.raises(InputError, match="flags: a setting is not UTF-8"):
        build_experiment({"data": {"root": "caf\udce9"}}, "flags")
