"""The pages of a List operation: filtered, sorted and cut as SageMaker does. Not what is listed."""

from __future__ import annotations

from typing import Any

PAGE = 100
"""Rows on a page where MaxResults is not given: SageMaker's most."""


def page(
    member: str, name: str, rows: list[dict[str, Any]], given: dict[str, Any], status: str = "EndpointStatus"
) -> dict[str, Any]:
    """One page of `rows` under `member`; `name` and `status` are columns of the rows, `given` is the request."""
    chosen = [row for row in rows if given.get("NameContains", "") in row[name]]
    if "StatusEquals" in given:
        chosen = [row for row in chosen if row[status] == given["StatusEquals"]]
    key = {"Name": name, "Status": status}.get(given.get("SortBy", "CreationTime"), "CreationTime")
    descending = given.get("SortOrder", "Descending") == "Descending"
    chosen.sort(key=lambda row: (row[key], row[name]), reverse=descending)
    start = int(given.get("NextToken", 0))
    end = start + given.get("MaxResults", PAGE)
    more = {"NextToken": str(end)} if end < len(chosen) else {}
    return {member: chosen[start:end], **more}
