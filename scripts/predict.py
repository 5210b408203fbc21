"""`music-emotion predict`, for checkouts."""

from music_emotion.cli import main

if __name__ == "__main__":
    main("predict")
