"""botocore's clients for the embedded AWS itself, with which the plug-in reads S3 and tells SNS. Not what it serves."""

from __future__ import annotations

from typing import Any

import botocore.session
from botocore.config import Config

from .settings import Settings


def client(settings: Settings, service: str, *, connections: int) -> Any:
    """One that retries nothing and keeps at most so many connections; safe from any thread."""
    return botocore.session.get_session().create_client(
        service,
        region_name=settings.region,
        endpoint_url=settings.url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=connections),
    )
