"""Intervals and paired differences against ones computed otherwise, from the same draws."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import average_precision_score, r2_score, roc_auc_score, root_mean_squared_error

from music_emotion.bench.coverage import artists as clips_of_artists
from music_emotion.evaluation import intervals
from music_emotion.evaluation.intervals import resampled_measures, resampled_scores
from music_emotion.evaluation.metrics import concordance, genre_scores, table_scores


def draws(n: int, groups: pd.Series | None = None) -> list[np.ndarray]:
    """Row numbers of resamples of clips, or of groups in the order of their names."""
    rows_of = (
        np.arange(n)[:, None] if groups is None else list(groups.reset_index().groupby(0).groups.values())
    )
    drawn = np.random.default_rng(0).integers(0, len(rows_of), (2000, len(rows_of)))
    return [np.concatenate([rows_of[k] for k in each]) for each in drawn[:40]]


@pytest.fixture(params=[False, True], ids=["clips", "groups"])
def groups(request, artists) -> pd.Series | None:
    return artists if request.param else None


@pytest.mark.parametrize("decimals", [1, 6], ids=["many ties", "no ties"])
def test_resampled_scores_are_scipys_on_the_same_draws(truth, noisy, decimals, groups):
    one, other = truth.round(decimals), noisy(0.3).round(decimals)
    found = resampled_scores("emotion", one, other, groups)
    by_hand = [
        table_scores(
            "emotion", one.iloc[rows].reset_index(drop=True), other.iloc[rows].reset_index(drop=True)
        )
        for rows in draws(60, groups)[:20]
    ]
    np.testing.assert_allclose(found.drawn[:20], pd.DataFrame(by_hand))
    assert dict(found.values) == table_scores("emotion", one, other)
    low, high = np.quantile(found.drawn["mean"], [0.025, 0.975])
    value = found.values["mean"]
    assert found.intervals()["mean"] == {"value": value, "low": low, "high": high, "n": 60}
    assert found.interval(["valence", "energy"]) == pytest.approx(found.intervals()["mean"])


def sklearns(known: pd.DataFrame, guessed: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The measures of every target, by scikit-learn and scipy."""
    found: dict[str, dict[str, float]] = {}
    for name in known:
        of = {"r2": r2_score, "pearson": pearson, "ccc": concordance, "rmse": root_mean_squared_error}
        if name == "dark":
            of = {"roc_auc": roc_auc_score, "pr_auc": average_precision_score}
        for measure, score in of.items():
            found.setdefault(measure, {})[name] = score(known[name], guessed[name])
    return {measure: scores | {"mean": np.mean([*scores.values()])} for measure, scores in found.items()}


def pearson(known: pd.Series, guessed: pd.Series) -> float:
    return 0.0 if guessed.std() == 0 else pearsonr(known, guessed).statistic


def test_resampled_measures_are_sklearns_on_the_same_draws(truth, noisy, groups, monkeypatch):
    monkeypatch.setattr(intervals, "N_RESAMPLES", 40)
    known, guessed = (each.round(1).assign(energy=0.5, dark=each["energy"]) for each in (truth, noisy(0.3)))
    known["dark"], known["energy"] = (
        (known["dark"] > 0.7).astype(float),
        truth["energy"],
    )  # guessed is constant
    found = resampled_measures(known, guessed, groups, {"valence": (1, 9), "other": (0, 5)})
    assert list(found) == ["r2", "pearson", "ccc", "rmse", "rmse_own_scale", "roc_auc", "pr_auc"]
    own = found.pop("rmse_own_scale")
    assert own["valence"] == own["mean"]
    for part in ("value", "low", "high"):
        assert own["valence"][part] == pytest.approx(8 * found["rmse"]["valence"][part])
    whole = sklearns(known, guessed)
    resampled = [sklearns(known.iloc[rows], guessed.iloc[rows]) for rows in draws(60, groups)]
    for measure, scores in found.items():
        assert set(scores) == set(whole[measure])
        for name, score in scores.items():
            ends = np.quantile([each[measure][name] for each in resampled], [0.025, 0.975])
            expected = {"value": whole[measure][name], "low": ends[0], "high": ends[1], "n": 60}
            assert score == pytest.approx(expected, abs=1e-12)


def test_measures_are_those_of_their_definitions():
    rng = np.random.default_rng(3)
    truth = np.column_stack([rng.random(50), rng.random(50), rng.random(50) < 0.3])
    prediction = (truth + rng.normal(0, 0.4, truth.shape)).round(1)  # with ties
    prediction[:, 1] = 0.3
    names = ["valence", "energy", "calm"]
    measures = resampled_measures(*(pd.DataFrame(values, columns=names) for values in (truth, prediction)))
    found = {
        measure: {name: score["value"] for name, score in of.items()} for measure, of in measures.items()
    }
    assert {measure: list(scores) for measure, scores in found.items()} == {
        **{name: ["calm", "mean"] for name in ("roc_auc", "pr_auc")},
        **{name: ["valence", "energy", "mean"] for name in ("r2", "pearson", "ccc", "rmse")},
    }
    (y, flat, tag), (p, _, score) = truth.T, prediction.T
    assert found["r2"]["valence"] == pytest.approx(1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    assert found["r2"]["energy"] == pytest.approx(-((flat.mean() - 0.3) ** 2) / flat.var())
    assert found["rmse"]["valence"] == pytest.approx(((y - p) ** 2).mean() ** 0.5)
    assert found["pearson"]["valence"] == pytest.approx(np.corrcoef(y, p)[0, 1])
    # Lin 1989: 1 less the expected squared distance from the line of identity over that without correlation
    apart = ((y - p) ** 2).mean() / (y.var() + p.var() + (y.mean() - p.mean()) ** 2)
    assert found["ccc"]["valence"] == pytest.approx(1 - apart)
    assert (found["pearson"]["energy"], found["ccc"]["energy"]) == (0, pytest.approx(0))
    assert found["ccc"]["mean"] == pytest.approx(found["ccc"]["valence"] / 2)
    pairs = score[tag == 1][:, None] - score[tag == 0]  # how often a clip with the tag is above one without
    assert found["roc_auc"]["calm"] == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)
    precisions = [tag[score >= each].mean() for each in score[tag == 1]]
    assert found["pr_auc"]["calm"] == pytest.approx(np.mean(precisions))


def test_a_tag_that_a_resample_lacks_is_a_guess():
    known, guessed = (pd.DataFrame({"rare": values}) for values in ([1.0, 0, 0], [0.9, 0.5, 0.5]))
    found = resampled_measures(known, guessed)
    assert (found["roc_auc"]["rare"]["low"], found["pr_auc"]["rare"]["low"]) == (0.5, 0)
    assert (found["roc_auc"]["rare"]["high"], found["pr_auc"]["rare"]["high"]) == (1, 1)


def test_groups_widen_the_intervals_of_clips_that_are_alike_and_groups_of_one_clip_change_nothing():
    clips = clips_of_artists(np.random.default_rng(1), 600)
    alone = pd.Series(range(600), clips.truth.index)
    plain, single, grouped = (
        resampled_scores("emotion", clips.truth, clips.one, groups) for groups in (None, alone, clips.groups)
    )
    pd.testing.assert_frame_equal(plain.drawn, single.drawn, check_exact=True)
    assert (grouped.drawn.std() > 1.02 * plain.drawn.std()).all()
    measures = [resampled_measures(clips.truth, clips.one, groups) for groups in (None, clips.groups)]
    for measure in ("r2", "pearson", "ccc", "rmse"):
        narrow, wide = (each[measure]["mean"] for each in measures)
        assert wide["value"] == narrow["value"]
        assert wide["high"] - wide["low"] > 1.02 * (narrow["high"] - narrow["low"])


def test_a_paired_difference_is_that_of_the_same_draws(truth, noisy):
    one, other = (resampled_scores("emotion", truth, noisy(*noise)) for noise in ((0.2, 1), (0.5, 2)))
    found = one.difference(other, ["energy"])
    apart = one.drawn["energy"] - other.drawn["energy"]
    low, high = np.quantile(apart, [0.025, 0.975])
    value, above = one.values["energy"] - other.values["energy"], (apart > 0).mean()
    assert above > 0.9
    assert found == pytest.approx({"value": value, "low": low, "high": high, "n": 60, "above": above})
    turned = other.difference(one, ["energy"])
    assert turned == pytest.approx({"value": -value, "low": -high, "high": -low, "n": 60, "above": 1 - above})
    same = one.difference(one, ["valence", "energy"])
    assert (same["high"], same["above"]) == (0, 0.5)


def test_resampled_genre_scores_are_those_of_the_same_draws(groups):
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 6, 60)  # the last class is never guessed, as a rare one may be
    likely = rng.random((60, 7))[:, :6] + np.eye(6)[truth] * (truth[:, None] < 5)
    tables = (pd.DataFrame(values, range(100, 160)) for values in (np.eye(6)[truth], likely))
    found = resampled_scores("genre", *tables, groups)
    by_hand = [genre_scores(truth[rows], likely[rows], range(6)) for rows in draws(60, groups)[:20]]
    np.testing.assert_allclose(found.drawn[:20], pd.DataFrame(by_hand))


def test_intervals_of_a_thousand_classes_fit_into_memory():
    table = pd.DataFrame(np.eye(1000))
    tracemalloc.start()
    resampled_scores("genre", table, table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e9  # a confusion matrix for each resample would take 16
