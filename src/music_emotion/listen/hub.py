"""Models on the Hugging Face Hub: find one by "owner/name", and push one with its card."""

import re
import shutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from music_emotion import __version__
from music_emotion.files import InputError, shortened, write_json, write_text
from music_emotion.models.card import ModelCard

_FILES = ["*.safetensors", "facts.json"]
_CARD = """---
{metadata}
---
# {name}

Predicts {outputs} of a song, with the Python package music-emotion {version}:

```python
from music_emotion import EmotionModel

model = EmotionModel.from_pretrained("{repo}")
model.predict("song.mp3")
```

On the command line: `music-emotion predict song.mp3 --model {repo}`

## Scores

{scores}

## Data

{data}

## Licence

{licence}

## Cite

music-emotion contributors, music-emotion {version} (software).
"""


@lru_cache
def located(place: str | Path) -> Path:
    """A path as it is, or the local copy of a model on the Hub.

    Parameters
    ----------
    place : str or Path
        An existing path wins. What looks like "owner/name", where there is no folder "owner" here, is a model
        on the Hub, which is downloaded into its cache. Without a network, a copy in the cache is used.

    Raises
    ------
    InputError
        When the Hub has no such model, or can't be reached.
    """
    path, name = Path(place), place if isinstance(place, str) else place.as_posix()
    found = re.fullmatch(r"([\w-][\w.-]*)/[\w-][\w.-]*", name)
    if path.exists() or not found or Path(found[1]).exists() or path.suffix == ".safetensors":
        return path
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except Exception as error:  # of the Hub or the network
        reason = shortened(str(error).splitlines()[0].rstrip("."), 200)
        raise InputError(
            f"There is no file or folder {name}, and the Hugging Face Hub gives no such model ({reason}). "
            f"Correct the name, or look whether there is a network."
        ) from None


def push(
    repo: str,
    files: Sequence[Path],
    cards: Sequence[ModelCard],
    facts: dict[str, Any],
    licence: str,
    data: str,
    private: bool,
) -> str:
    """Create a model on the Hub, or replace it, and return its address. As `EmotionModel.push_to_hub`."""
    from huggingface_hub import HfApi

    with TemporaryDirectory() as temporary:
        folder, number = Path(temporary), dict.fromkeys(("emotion", "genre"), 0)
        for file, card in zip(files, cards, strict=True):
            task = card.experiment.task
            shutil.copyfile(file, folder / f"{task}{number[task]}.safetensors")
            number[task] += 1
        write_json(folder / "facts.json", facts)
        write_text(folder / "README.md", model_card(repo, cards, facts["about"], licence, data))
        try:
            api = HfApi(library_name="music-emotion", library_version=__version__)
            api.create_repo(repo, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                commit_message=f"Model of music-emotion {__version__}",
                delete_patterns=_FILES,
            )
        except Exception as error:  # of the Hub or the network
            remedy = "Log in with hf auth login, or correct the name."
            raise InputError(f"{repo} was not pushed: {shortened(str(error), 300)}. {remedy}") from None
    return str(done.repo_url)


def model_card(repo: str, cards: Sequence[ModelCard], about: dict[str, Any], licence: str, data: str) -> str:
    """The text of a model's page on the Hub, with its scores and their intervals."""
    from huggingface_hub import ModelCardData

    outputs = list(dict.fromkeys(name for card in cards for name in card.outputs))
    rows = [
        {"": f"{name}, {'Spearman' if task == 'emotion' else 'genres'}"}
        | {"score": f"{of['value']:.3f}", "95 % interval": f"{of['low']:.3f} to {of['high']:.3f}"}
        | {"clips": of["n"]}
        for task, scores in about.get("scores", {}).items()
        for name, of in scores.items()
    ]
    scores = "Out of fold:\n\n" + pd.DataFrame(rows).to_markdown(index=False) if rows else "None are known."
    metadata = ModelCardData(
        license=licence,
        library_name="music-emotion",
        pipeline_tag="audio-classification",
        tags=["music", "music-emotion-recognition", *outputs],
    )
    return _CARD.format(
        metadata=metadata.to_yaml(),
        name=repo.split("/")[-1],
        outputs=", ".join(outputs),
        version=__version__,
        repo=repo,
        scores=scores,
        data=data or "Not described.",
        licence=licence,
    )
