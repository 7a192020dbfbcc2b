"""Where a bucket is, as one URL without secrets, so that it can travel with every task.

    s3://bucket/prefix?endpoint=https://minio.example:9000&region=eu-central-1

Credentials never are part of it: each machine takes them from its own environment
(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN), from a web identity token, or from
the role of the machine it runs on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import parse_qsl, urlencode, urlsplit

from storage.errors import InvalidKeyError

# Of general purpose buckets, by the S3 user guide: 3 to 63 of these characters.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_REGION = re.compile(r"[a-z0-9-]{1,64}")
_MAX_SECONDS = 3600.0

# In the order in which the AWS tools believe them.
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
_DEFAULT_REGION = "us-east-1"  # what servers other than Amazon's call their only one


@dataclass(frozen=True)
class S3Location:
    """A folder of a bucket. `endpoint`: None for Amazon's own."""

    bucket: str
    prefix: str = ""  # without slashes at its ends; empty: the whole bucket
    endpoint: str | None = None
    region: str = _DEFAULT_REGION
    # Of one request with its body: a chunk of 16 MiB over 2 Mbit/s takes a minute.
    timeout_seconds: float = 120.0
    # How long a request that failed is tried again, with growing pauses, before it is an error.
    retry_seconds: float = 60.0

    @property
    def url(self) -> str:
        """What `parse_s3_url` makes an equal location from, whatever the environment says."""
        options: dict[str, str] = {"region": self.region}
        if self.endpoint is not None:
            options["endpoint"] = self.endpoint
        for name in ("timeout_seconds", "retry_seconds"):
            if getattr(self, name) != getattr(S3Location, name):
                options[name] = f"{getattr(self, name):g}"
        folder = f"/{self.prefix}" if self.prefix else ""
        return f"s3://{self.bucket}{folder}?{urlencode(sorted(options.items()), safe=':/')}"

    def __str__(self) -> str:
        where = f" at {self.endpoint}" if self.endpoint else ""
        return f"s3://{self.bucket}{'/' if self.prefix else ''}{self.prefix}{where}"


def parse_s3_url(url: str, environment: Mapping[str, str]) -> S3Location:
    """The location that an `s3://` URL names; endpoint and region are those of the environment
    (AWS_ENDPOINT_URL, AWS_REGION) where the URL has none. Raises InvalidKeyError."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True))
    except ValueError:
        if urlsplit(url).query:
            _refuse("its part after the ? is not name=value&...")
        parts, options = urlsplit(url), {}
    if "@" in parts.netloc:
        _refuse("keys do not belong into it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not _BUCKET.fullmatch(parts.netloc):
        _refuse(f"{parts.netloc[:64]!r} is not the name of a bucket")
    prefix = parts.path.strip("/")
    if prefix and not all(_PREFIX_PART.fullmatch(part) for part in prefix.split("/")):
        _refuse(f"{prefix[:64]!r} is not a prefix of letters, digits, '_', '-' and inner dots")
    endpoint = options.pop("endpoint", None) or _first(environment, _ENDPOINT_VARIABLES)
    region = options.pop("region", None) or _first(environment, _REGION_VARIABLES)
    seconds = {name: _seconds(options, name) for name in ("timeout_seconds", "retry_seconds")}
    if options:
        _refuse(
            f"{sorted(options)[0][:64]!r} is no option: they are endpoint, region,"
            " timeout_seconds and retry_seconds"
        )
    if region is not None and not _REGION.fullmatch(region):
        _refuse(f"{region[:64]!r} is not a region")
    return S3Location(
        parts.netloc,
        prefix,
        None if endpoint is None else _checked_endpoint(endpoint),
        region or _DEFAULT_REGION,
        **{name: value for name, value in seconds.items() if value is not None},
    )


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((environment[name] for name in names if environment.get(name)), None)


def _seconds(options: dict[str, str], name: str) -> float | None:
    text = options.pop(name, None)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= _MAX_SECONDS or (name == "timeout_seconds" and value == 0):
        _refuse(f"{name} is {text[:20]!r}, not a number up to {_MAX_SECONDS:g}")
    return value


def _checked_endpoint(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or "@" in parts.netloc or parts.query or parts.fragment:
        _refuse("its endpoint is not http://host:port or https://host:port, without keys")
    return endpoint.rstrip("/")


def _refuse(reason: str) -> NoReturn:
    raise InvalidKeyError(
        f"The URL of the store names none: {reason}.",
        advice="Write s3://bucket/prefix, with ?endpoint=https://host:port for a store other than"
        " Amazon's.",
    )
