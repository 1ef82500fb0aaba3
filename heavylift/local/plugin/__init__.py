"""What MiniStack lacks for a model on SageMaker: the service itself, its runtime API, Application Auto Scaling.

Not imported by Heavylift: it runs on the embedded AWS's own interpreter, as `python -m plugin`, and knows the
standard library, botocore and MiniStack only. An endpoint is real here: a local process serves it, and its `/ping`
decides its status.
"""
