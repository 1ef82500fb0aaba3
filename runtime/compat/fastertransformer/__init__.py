"""`import fastertransformer as ft`, over Heavylift's native engine: the wheel's names and rules, not NVIDIA's kernels.

The wheel is the one that AWS's LMI containers had (rohithkrn/FasterTransformer, branch nalrohit_dev, python/).
"""

from fastertransformer.inference import init_inference, save_checkpoint
from fastertransformer.model import InferenceModel

__all__ = ["InferenceModel", "init_inference", "save_checkpoint"]
