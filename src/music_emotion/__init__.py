"""music-emotion: learn how music feels.

Rooms, in the order the data flows: `sound` (waveforms to features), `data` (others' files to
checked tables and arrays), `models` (networks), `training` (one loop, small objectives),
`results` (scores, blends, submissions). A room imports only from rooms before it; the words
all rooms share are in `experiment`, `predictions`, `files` and `errors`.
"""
