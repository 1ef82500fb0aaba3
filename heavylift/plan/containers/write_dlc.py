"""Writes dlc.json out of sagemaker-core's image_uris, in an environment of its own: it pins an older rich than ours.

    python3.11 -m venv /tmp/dlc && /tmp/dlc/bin/pip install sagemaker-core==2.27.0
    /tmp/dlc/bin/python heavylift/plan/containers/write_dlc.py

Not part of synthesis, which reads the file. Names and tags are those that image_uris.retrieve gives.
"""

import importlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

NAMES = {
    "lmi": "djl-lmi",
    "vllm": "vllm",
    "deepspeed": "djl-deepspeed",
    "fastertransformer": "djl-fastertransformer",
    "neuronx": "djl-neuronx",
}
TYPES = {"neuronx": "ml.inf2.xlarge"}


def main() -> None:
    """Ask for each framework and version."""
    image_uris: Any = importlib.import_module("sagemaker.core.image_uris")
    home = Path(image_uris.__file__).parent / "image_uri_config"
    accounts: dict[str, str] = {}
    frameworks: dict[str, dict[str, Any]] = {}
    for short, name in NAMES.items():
        document = json.loads((home / f"{name}.json").read_text())
        versions = document.get("versions") or document["inference"]["versions"]
        frameworks[short] = {}
        for version, entry in versions.items():
            accounts |= entry["registries"]
            region = "us-east-1"
            uri = image_uris.retrieve(
                name, region, version, instance_type=TYPES.get(short, "ml.g5.xlarge"), image_scope="inference"
            )
            repository, _, tag = uri.partition("/")[2].partition(":")
            frameworks[short][version] = {"repository": repository, "tag": tag, "regions": set(entry["registries"])}
    every = sorted(accounts)
    for versions in frameworks.values():
        for row in versions.values():
            there = row.pop("regions")
            row["not_in"] = [region for region in every if region not in there]
    source = f"sagemaker-core {importlib.metadata.version('sagemaker-core')}, image_uris"
    table = {"source": source, "accounts": {region: accounts[region] for region in every}, "frameworks": frameworks}
    Path(__file__).with_name("dlc.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
