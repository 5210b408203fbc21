"""`music-emotion submit`, for `accelerate launch` and for checkouts."""

from music_emotion.cli import main

if __name__ == "__main__":
    main("submit")
