"""How the numbers of a report are to be read."""

from music_emotion.evaluation.report_cells import code

_HOW = """\
Every number is copied or computed from files of `runs/` and `submissions/` by the command

```bash
{command}
```

- **Scores** are Spearman correlations over all clips of a section, each predicted by a network that never
  saw it (out of fold; of several seeds their mean prediction, which usually scores higher than one of
  them). Brackets hold 95 % intervals: percentiles over 2,000 bootstrap resamples of the clips. Those take
  the clips to be independent; where several are of one artist they are too narrow, and so are those of macro
  F1 on a hundred clips with rare classes (`python scripts/bench.py coverage`).
- **± seeds** and **± folds** are standard deviations of the mean by which a table is sorted, with their
  number: of single seeds, each over all clips, and of single folds about the mean of their seed. A fold has
  few clips, whose luck is most of ± folds; a seed may split the folds anew. What one seed or fold can't
  tell is unknown.
- **Differences** are between the means by which a table is sorted. Run and default are scored in the same
  resamples, in pairs, over the clips that both predict (n); bold ones have an interval that excludes 0, as
  one in twenty does by chance where there is no difference. Such an interval speaks of other clips, not of
  another training with another seed. The default is {default}.
- The first of many rows is a little too good: the clips that score it have put it there.
- *Selected on validation*: the clips that are scored chose the epoch, which makes a score too good.
- **Blends** are scored nested: no clip's weights were chosen on it. Which runs to blend may have been.
- **Minutes** are those of training with its validations, or of an estimator's fitting, summed over the
  finished folds of all seeds. **Memory** is the largest that a process held since it started.
- – is what the files do not tell; runs of earlier versions kept less."""


def how_to_read(command: str, default: str | None) -> str:
    """The notes above a report's tables.

    Parameters
    ----------
    command : str
        That makes the page again.
    default : str or None
        The run that was named to compare with.
    """
    usual = "the run that differs from the default experiment in nothing but its name, data and folds"
    return _HOW.format(
        command=command,
        default=f"{code(default)}, or where its clips are others {usual}" if default else usual,
    )
