"""Audio decoding, mel and chroma features, beat tracking and clip statistics."""
