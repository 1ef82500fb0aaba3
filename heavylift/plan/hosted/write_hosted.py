"""Writes hosted.json out of the lists that cfn-lint carries, which are AWS's Price List's for SageMaker hosting.

    python heavylift/plan/hosted/write_hosted.py 2026-10-20

Not part of a plan or of synthesis, which read the file. The date is that of cfn-lint's data.
"""

import importlib.metadata
import json
import sys
from importlib import resources
from pathlib import Path

from heavylift.plan import facts

LIST = "data/schemas/extensions/aws_sagemaker_hosting/instancetype_enum.json"
URL = "https://github.com/aws-cloudformation/cfn-lint"


def main(date: str) -> None:
    """Only the types that we have facts of."""
    given = json.loads((resources.files("cfnlint") / LIST).read_text("utf-8"))
    known = facts.instances()
    regions = {
        region: " ".join(type_ for type_ in known if type_ in row["enum"])
        for region, row in sorted(given.items())
        if isinstance(row, dict)
    }
    source = f"AWS's Price List, as cfn-lint {importlib.metadata.version('cfn-lint')} carries it"
    table = {"source": source, "url": URL, "date": date, "regions": regions}
    Path(__file__).with_name("hosted.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
