"""The benchmark: schedule, client, samples, verdict, and the Lambda behind the gate.

Not for anything but the standard library and boto3: a Lambda's zip is `heavylift/__init__.py` and this folder.
"""
