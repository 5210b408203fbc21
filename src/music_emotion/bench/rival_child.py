"""The child process of `rival.vibenet`: it runs in vibenet's own environment and imports nothing of ours.

Each line of its input is a JSON list of a path, the start and the end in seconds or null. Each line of its
output is an answer: predictions by name and a list of features, or the text of an error. The first line of
the output is empty, and says that vibenet is loaded.
"""

import json
import os
import signal
import sys
from importlib.resources import files

_LAYERS = (b"view", b"gelu")  # of release 0.1.0: the backbone's output, 1,280 numbers, and the trunk's, 256


def main() -> None:
    """Answer until the input ends."""
    import onnxruntime
    from vibenet.core import SAMPLE_RATE, InferenceResult, extract_mel, load_audio

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C, the parent ends this process
    answers, sys.stdout = sys.stdout, sys.stderr
    # A message of Protocol Buffers is merged with one that follows it. The one that follows is a model (field
    # 7, graph) with further outputs (field 12) that have a name (field 1).
    outputs = b"".join(bytes([0x62, len(name) + 2, 0x0A, len(name)]) + name for name in _LAYERS)
    weights = files("vibenet").joinpath("artifacts/efficientnet_model.onnx").read_bytes()
    options = onnxruntime.SessionOptions()
    if hasattr(os, "sched_getaffinity"):  # by itself, it takes cores that this process may not use
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
    network = onnxruntime.InferenceSession(weights + bytes([0x3A, len(outputs)]) + outputs, options)
    print(file=answers, flush=True)
    for line in sys.stdin:
        path, start, end = json.loads(line)
        try:
            stop = None if end is None else round(end * SAMPLE_RATE)
            waveform = load_audio(path)[round(start * SAMPLE_RATE) : stop]
            logits, *layers = network.run(None, {"x": extract_mel(waveform, SAMPLE_RATE)[None]})
            predicted = InferenceResult.from_logits(logits[0].tolist()).to_dict()
            answer = json.dumps([predicted, [float(value) for layer in layers for value in layer[0]]])
        except Exception as error:
            answer = json.dumps(f"{type(error).__name__}: {error}")
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
