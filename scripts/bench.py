"""Speed and memory beside the ordinary way, as ratios measured in one run; what intervals of scores hold."""

from benchmarks.coverage import coverage
from benchmarks.devices import devices
from benchmarks.extraction import extract
from benchmarks.memory import memory
from benchmarks.training import train
from command_line import run

if __name__ == "__main__":
    run(commands=[extract, devices, train, memory, coverage])
