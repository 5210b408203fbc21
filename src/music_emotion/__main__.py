"""`python -m music_emotion` is the command `music-emotion`."""

from music_emotion.cli import main

if __name__ == "__main__":
    main()
