"""The command that gets the pretrained ear."""

import tempfile
from pathlib import Path

from music_emotion.files import InputError, first_five, in_turn, remove_unfinished
from music_emotion.models.ear import FILES, convert_wheel, ear_folder, fetch_wheel, read_ear


def ear(*, wheel: Path | None = None, out: Path | None = None) -> None:
    """Write the pretrained networks that embeddings come from, with their licence, unless they are there.

    Parameters
    ----------
    wheel
        The file musicnn-0.1.0-py3-none-any.whl that holds the weights; by default pip downloads it (29 MB).
    out
        Folder for the files; by default the user's cache, where other commands find them.
    """
    folder = out or ear_folder()
    with in_turn(folder, "gets the ear"):
        remove_unfinished(folder)
        try:
            cards = [read_ear(folder / name)[1] for name in FILES]
            print("The files are there already:")
        except InputError:  # missing or damaged
            with tempfile.TemporaryDirectory() as place:
                convert_wheel(wheel or fetch_wheel(Path(place)), folder)
            cards = [read_ear(folder / name)[1] for name in FILES]
    for name, card in zip(FILES, cards, strict=True):
        print(f"{folder / name}: {len(card['tags'])} tags ({first_five(card['tags'])})")
    print(f"\nCite {card['paper']}\n\nLicence of these weights: {card['licence']}")
