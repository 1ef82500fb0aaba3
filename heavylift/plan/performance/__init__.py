"""How fast a model is on a device: prefill, decode steps, collectives, batches, intervals. Not whether it fits."""
