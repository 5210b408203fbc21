"""A plugin of beets: items get the fields valence, energy and danceability, in the library and in files.

They are predicted after an import, and by ``beet emotion [query]``. Options below `music_emotion` in the
configuration: `auto` (predict after imports; yes), `force` (predict items again that have the fields; no) and
`model` (a folder of a run, or a model file; by default the model in the package).
"""

import os
from collections.abc import Iterable
from typing import Any

from beets import ui
from beets.dbcore.query import NumericQuery
from beets.dbcore.types import NullFloat
from beets.library import Item
from beets.plugins import BeetsPlugin
from mediafile import ASFStorageStyle, MediaField, MP3DescStorageStyle, MP4StorageStyle, StorageStyle
from tqdm import tqdm

_FIELDS = ("valence", "energy", "danceability")


class _PresentQuery(NumericQuery):
    """A range of numbers, which a missing number is never in."""

    def match(self, obj: Any) -> bool:
        return obj.get(self.field_name) is not None and super().match(obj)


class _Prediction(NullFloat):
    """A float, or None for an item that is not predicted."""

    query = _PresentQuery

    def format(self, value: float | None) -> str:
        return "" if value is None else super().format(value)


class MusicEmotionPlugin(BeetsPlugin):
    """Predicts how the items of a library feel."""

    item_types = dict.fromkeys(_FIELDS, _Prediction(3))

    def __init__(self):
        super().__init__()
        self.config.add({"auto": True, "force": False, "model": ""})
        for name in _FIELDS:
            of_all, of_mp4 = name.upper(), f"----:com.apple.iTunes:{name.upper()}"
            kinds = {MP3DescStorageStyle: of_all, MP4StorageStyle: of_mp4, StorageStyle: of_all}
            styles = [kind(tag, float_places=3) for kind, tag in {**kinds, ASFStorageStyle: of_all}.items()]
            self.add_media_field(name, MediaField(*styles, out_type=float))
        Item._media_tag_fields.update(_FIELDS)  # what `beet write` looks at
        if self.config["auto"].get(bool):
            self.import_stages = [lambda _, task: self.predict(task.imported_items())]

    def commands(self) -> list[ui.Subcommand]:
        """Give beets the command `emotion`."""
        command = ui.Subcommand("emotion", help="predict valence, energy and danceability")
        command.parser.add_option("-f", "--force", action="store_true", help="predict items again")
        command.func = lambda library, flags, query: self.predict(
            library.items(query), flags.force, ui.should_write()
        )
        return [command]

    def predict(self, items: Iterable[Any], force: bool = False, write: bool = False) -> None:
        """Predict items that lack a field, store them and, with `write`, write their tags."""
        from music_emotion import EmotionModel  # slow to import, and not needed by other commands of beets
        from music_emotion.failures import collecting

        force, failures = force or self.config["force"].get(bool), dict[str, str]()
        with collecting(failures, "The model"):
            model = EmotionModel.from_pretrained(*filter(None, [self.config["model"].get(str)]))
            names = [name for name in _FIELDS if name in model.columns]
            chosen = [item for item in items if force or any(item.get(name) is None for name in names)]
            for item in tqdm(chosen, "emotion", unit="song", disable=len(chosen) < 2):
                with collecting(failures, path := os.fsdecode(item.path)):
                    found = model.predict(path)
                    item.update({name: round(found[name], 3) for name in names})
                    if write:
                        item.try_write()
                    item.store()
        for reason in failures:
            self._log.error("{}", reason)
