"""The SageMaker SDK's predictors (v2) on an endpoint, as its users write them. Runs on an interpreter of its own.

`sagemaker_predictor.py URL ENDPOINT PROMPT`: prints one JSON object of what they answered.
"""

from __future__ import annotations

import json
import sys

import boto3
from sagemaker.deserializers import JSONDeserializer
from sagemaker.huggingface import HuggingFacePredictor
from sagemaker.iterators import LineIterator
from sagemaker.predictor import Predictor
from sagemaker.serializers import JSONSerializer
from sagemaker.session import Session


def main(url: str, endpoint: str, prompt: str) -> None:
    """Ask in each way."""
    boto = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    clients = {name: boto.client(name, endpoint_url=url) for name in ("sagemaker", "sagemaker-runtime")}
    session = Session(boto, clients["sagemaker"], clients["sagemaker-runtime"], default_bucket="none")
    predictor = Predictor(endpoint, session, JSONSerializer(), JSONDeserializer())
    asked = {"inputs": prompt, "parameters": {"max_new_tokens": 40, "details": True}}
    lines = predictor.predict_stream({**asked, "stream": True}, iterator=LineIterator)
    print(
        json.dumps(
            {
                "one": predictor.predict(asked),
                "many": predictor.predict({**asked, "inputs": [prompt, prompt]}),
                "hugging face": HuggingFacePredictor(endpoint, session).predict(asked),
                "stream": [json.loads(line) for line in lines],
            }
        )
    )


main(*sys.argv[1:])
