"""A checkpoint under a prefix in S3, read in ranges straight into memory and never stored on disk.

Not a download (engines/download.py does that for scripts), and it writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.ranges import Broken, Located, Ranges
from heavylift_runtime.native.sources import Remote, behind

ATTEMPTS = 4
"""Of one range, beyond botocore's own retries (of refusals, throttling and errors), which end where a body begins."""
SIGNED = 3600
"""Seconds that a signed URL holds; SageMaker ends a start-up that takes longer."""

_MENDS = (
    (
        {"ExpiredToken", "InvalidToken", "RequestExpired", "InvalidAccessKeyId", "TokenRefreshRequired"},
        "the credentials are expired or wrong; renew them, and start again",
    ),
    (
        {"AccessDenied", "403"},
        "the role needs s3:ListBucket and s3:GetObject there, and kms:Decrypt where a key encrypts",
    ),
    ({"NoSuchKey", "NoSuchBucket", "404"}, "check 'model_id', or push the weights again"),
    ({"SlowDown", "ServiceUnavailable", "InternalError", "503", "500"}, "S3 is busy; start again later"),
    ({"PreconditionFailed", "412"}, "it was replaced while it was read; start again"),
    ({"PermanentRedirect", "AuthorizationHeaderMalformed", "301"}, "set AWS_REGION to that of the bucket"),
)
"""S3's codes of errors, and what to do (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html)."""


class Prefix(Remote):
    """A checkpoint under `s3://bucket/prefix/`."""

    def __init__(self, bucket: str, prefix: str, client: Any, *, signed: bool = False) -> None:
        """`client`: boto3's S3 client. The prefix is a folder: 'a/b' and 'a/b/' are the same.

        `signed`: ranges are read by signed URLs where that works, past the client.
        """
        self._bucket, self._client = bucket, client
        self._ranges = Ranges(self._sign) if signed else None
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._tags: dict[str, str] = {}
        self.place = f"s3://{bucket}/{self._prefix}"

    @classmethod
    def at(cls, url: str) -> Prefix:
        """With a client of its own; boto3 finds region, credentials and AWS_ENDPOINT_URL in the environment."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        parts = urlsplit(url)
        if not parts.netloc:
            raise LoadError(f"'model_id' is {url!r}; an S3 location has the form s3://bucket/prefix/")
        retries: Any = {"mode": "standard", "max_attempts": 5}
        config = Config(
            max_pool_connections=cls.readers,
            retries=retries,
            connect_timeout=10,
            read_timeout=60,
            signature_version="s3v4",  # of signed URLs, too: S3 demands it for what a KMS key encrypts
        )
        try:
            return cls(parts.netloc, parts.path, boto3.client("s3", config=config), signed=True)
        except (BotoCoreError, ValueError) as error:  # no region, an endpoint that is none
            raise LoadError(f"{url}: there is no client for S3: {error}") from error

    def _sign(self, name: str) -> Located:
        request = {"Bucket": self._bucket, "Key": self._prefix + name}
        url = str(self._client.generate_presigned_url("get_object", Params=request, ExpiresIn=SIGNED))
        return url, {"If-Match": self._tags[name]} if name in self._tags else {}  # all ranges are of one object

    def files(self) -> dict[str, int]:
        from botocore.exceptions import BotoCoreError, ClientError

        listed = dict[str, Any]()
        request = {"Bucket": self._bucket, "Prefix": self._prefix}
        try:  # botocore's paginator would first look through 450 folders of services: half of what all this takes
            while True:
                page = self._client.list_objects_v2(**request)
                listed.update({item["Key"].removeprefix(self._prefix): item for item in page.get("Contents", ())})
                if not page.get("IsTruncated"):
                    break
                request["ContinuationToken"] = page["NextContinuationToken"]
        except (BotoCoreError, ClientError) as error:
            raise LoadError(f"{self.place}: cannot list the model's files: {_said(error)}") from error
        if not listed:
            raise LoadError(f"{self.place}: there is nothing under this prefix; push the weights first")
        self._tags = {name: item["ETag"] for name, item in listed.items() if "ETag" in item}
        return {name: int(item["Size"]) for name, item in listed.items()}

    def version(self, name: str) -> str | None:
        return self._tags.get(name)

    def read_into(self, name: str, start: int, *buffers: memoryview) -> None:
        from botocore.exceptions import BotoCoreError

        if not any(map(len, buffers)):
            return
        try:
            if self._ranges is not None:
                return self._ranges.read(name, start, buffers)
        except (Broken, BotoCoreError):  # the second: there are no credentials to sign with
            pass  # botocore will meet it again: it tries again in its time, or says what it is
        self._get(name, start, list(buffers))

    def _get(self, name: str, start: int, buffers: list[memoryview]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        size = sum(map(len, buffers))
        wanted = f"bytes={start}-{start + size - 1}"
        request = {"Bucket": self._bucket, "Key": self._prefix + name, "Range": wanted}
        if name in self._tags:
            request["IfMatch"] = self._tags[name]
        for attempt in range(1, ATTEMPTS + 1):
            left = buffers
            try:
                body = self._body(request)
                while left and (count := body.readinto(left[0])):
                    left = behind(left, count)
            except ClientError as error:
                raise LoadError(f"{self.place}{name}: cannot be read: {_said(error)}") from error
            except BotoCoreError as error:  # no connection, or one that was cut
                if attempt == ATTEMPTS:
                    raise LoadError(f"{self.place}{name}: {wanted} failed {ATTEMPTS} times: {error}") from error
                continue
            if left or body.read(1):
                raise LoadError(f"{self.place}{name}: {wanted} is not {size} bytes; the object was cut or replaced")
            return

    def _body(self, request: Mapping[str, str]) -> Any:
        """The beginning of an answer."""
        from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

        try:
            return self._client.get_object(**request)["Body"]
        except (ConnectTimeoutError, ReadTimeoutError) as error:  # botocore has waited for minutes
            raise LoadError(f"s3://{self._bucket}/{request['Key']}: S3 does not answer: {error}") from error


def _said(error: Exception) -> str:
    """botocore's sentence, and what to do about it where that is known."""
    response: dict[str, Any] = getattr(error, "response", {})
    code = str(response.get("Error", {}).get("Code"))
    return "; ".join([str(error), *(mend for codes, mend in _MENDS if code in codes)])
