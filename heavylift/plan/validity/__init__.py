"""What cannot be run, and why: each rule answers with sentences, and none where all is well. Not what is best.

degrees.py    tensor and pipeline parallelism, by engine and quantization
neuron.py     the degrees and heads of Inferentia and Trainium
precision.py  number formats by hardware
host.py       host memory while loading, disk, and the 60 seconds of an invocation
"""

from heavylift.plan.validity.degrees import Split, degree_faults, engine_faults, splits, vllm_faults
from heavylift.plan.validity.host import invocation_faults, loading_bytes
from heavylift.plan.validity.precision import computes_in, precision_faults

__all__ = [
    "Split",
    "computes_in",
    "degree_faults",
    "engine_faults",
    "invocation_faults",
    "loading_bytes",
    "precision_faults",
    "splits",
    "vllm_faults",
]
