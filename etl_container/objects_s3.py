"""The raw zone in an S3 bucket, and how a task proves to Aurora who it is. The data plane's only door to AWS.

**Which version is newer.** A bucket's current version is the one whose creation began last, and ``LastModified`` is
that instant (multipart uploads included), in whole seconds. So an ordinal begins with it, however the version became
known, and ends with what orders the puts of one second::

    1794960000-0055AED6DCD90281E500000000000000     an event told its sequencer
    1794960000-~                                    listed: it is the bucket's current version
    1794960000-                                     listed, and it is not

Hexadecimal digits sort between nothing and ``~``. A listed version is believed to be current only after its second has
passed, so that no later put can share it. Sources: Amazon S3 User Guide, "Concurrent multipart upload operations" and
"Event message structure" (sequencers of one key compare as hexadecimal text, the shorter one padded with zeros).

**Reading.** Parts of 8 MiB are fetched ahead of a sequential reader by a few threads, each whole part retried; what one
stream holds is bounded by :data:`AHEAD` parts. Readers look at an object's beginning several times, so the first part
of the last object is kept. A stream that is read from its first byte to its last is held against the checksum that the
bucket keeps. A store that answers a ranged request with the whole object is refused: it would be taken for the range.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import hashlib
import io
import re
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from etl_container.errors import (
    BusyError,
    ConfigError,
    InfrastructureError,
    LakectlError,
    NotFoundError,
    PermissionDeniedError,
)
from etl_container.objects import ObjectRef

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError

PART = 8 << 20
"""Bytes fetched at a time."""

AHEAD = 4
"""Parts that one stream holds or fetches at most: 32 MiB."""

TRIES = 4
"""How often a part is fetched before its error counts; the pauses between are 0.2, 0.4 and 0.8 s."""

UNVERSIONED = "etag-"
"""Begins the version of an object in a bucket that keeps none: its content's tag stands for it."""

_CURRENT, _NOT_CURRENT = "~", ""
_THROTTLED = frozenset(
    {"SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException", "TooManyRequestsException", "503"}
    | {"RequestLimitExceeded", "RequestTimeTooSkewed", "RequestTimeout", "InternalError", "500", "502", "504"}
)
_MISSING = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NoSuchBucket", "NotFound", "405", "MethodNotAllowed"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
_REFUSED = frozenset(
    {"403", "AccessDenied", "AccessDeniedException", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
    | {"UnrecognizedClientException", "InvalidToken", "AllAccessDisabled", "KMS.DisabledException"}
)


@dataclass(frozen=True, slots=True)
class _Part:
    data: bytes
    head: dict[str, Any]
    """What S3 said of the object beside its bytes."""


class _Opening:
    """The first part of the object that was opened last; never pickled."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._name: tuple[str, str, str] | None = None
        self._part: _Part | None = None

    def of(self, ref: ObjectRef, fetch: Callable[[], _Part]) -> _Part:
        name = (ref.bucket, ref.key, ref.version)
        with self._lock:
            if self._name != name or self._part is None:
                self._part = None  # one at a time in memory
                self._part, self._name = fetch(), name
            return self._part

    def __reduce__(self) -> tuple[type[_Opening], tuple[()]]:
        return _Opening, ()


@dataclass(frozen=True)
class S3Store:
    """A bucket as the raw zone; see :class:`etl_container.objects.ObjectStore`. Picklable: clients are made when asked.

    Attributes:
        bucket: its name.
        account: the 12 digits of the account that must own it, or None: a bucket of anyone else is refused by S3.
        region: None: the environment's.
        profile: the AWS profile, or None.
    """

    bucket: str
    account: str | None = None
    region: str | None = None
    profile: str | None = None
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False, compare=False)
    _opening: _Opening = field(default_factory=_Opening, repr=False, compare=False)

    @property
    def client(self) -> Any:
        """The boto3 client; one for all stores of a process."""
        return _client("s3", self.region, self.profile)

    # -- which objects there are ---------------------------------------------------------------------------------------

    def find(
        self, key: str, version: str | None = None, *, sequencer: str | None = None, etag: str | None = None
    ) -> ObjectRef:
        """One version of a key, the newest when None.

        Args:
            sequencer: of the event that told of this version, where one did.
            etag: likewise; names the version in a bucket that keeps none.

        Raises:
            NotFoundError: no such key or version; or the role may not list, so that S3 does not say which.
            PermissionDeniedError: it may not be read.
        """
        if version is None and etag:
            version = UNVERSIONED + _bare(etag)
        head = self._head(key, version)
        if sequencer:
            return self._ref(key, head, _padded(sequencer))
        if version is None:
            return self._settled(key, head)
        current = self._settled(key, self._head(key, None))
        return current if current.version == _version(head) else self._ref(key, head, _NOT_CURRENT)

    def list(self, prefix: str = "raw/") -> Iterator[ObjectRef]:
        """The newest version of every key that starts with ``prefix``, by key; needs ``s3:ListBucketVersions``."""
        pages = self.client.get_paginator("list_object_versions")
        with translated(f"s3://{self.bucket}/{prefix}"):
            for page in pages.paginate(Bucket=self.bucket, Prefix=prefix, **self._owner):
                for found in page.get("Versions", ()):
                    if found["IsLatest"] and not found["Key"].endswith("/"):
                        yield self._listed(found)

    def _listed(self, found: dict[str, Any]) -> ObjectRef:
        landed = found["LastModified"]
        version = _version({"VersionId": found.get("VersionId"), "ETag": found.get("ETag", "")})
        ordinal = _ordinal(landed, _CURRENT)
        return ObjectRef(self.bucket, found["Key"], version, ordinal, int(found["Size"]), None, landed)

    def _settled(self, key: str, head: dict[str, Any]) -> ObjectRef:
        """The current version, looked at again when its second was not over: a later put may share it."""
        for _ in range(3):
            if _now(head) > int(head["LastModified"].timestamp()):
                break
            self.sleep(1.0)
            head = self._head(key, None)
        return self._ref(key, head, _CURRENT)

    def _head(self, key: str, version: str | None) -> dict[str, Any]:
        with translated(f"s3://{self.bucket}/{key}"):
            found: dict[str, Any] = self.client.head_object(
                Bucket=self.bucket, Key=key, ChecksumMode="ENABLED", **_chosen(version), **self._owner
            )
        return found

    def _ref(self, key: str, head: dict[str, Any], tie: str) -> ObjectRef:
        landed = head["LastModified"]
        size = int(head["ContentLength"])
        return ObjectRef(self.bucket, key, _version(head), _ordinal(landed, tie), size, _digest(head), landed)

    @property
    def _owner(self) -> dict[str, str]:
        return {"ExpectedBucketOwner": self.account} if self.account else {}

    # -- bytes ---------------------------------------------------------------------------------------------------------

    def open(self, ref: ObjectRef) -> BinaryIO:
        """A stream over the version's bytes: sequential reads are fetched ahead, seeks are allowed."""
        first = self._opening.of(ref, lambda: self._part(ref, 0))
        return _Stream(ref, self._part, first)  # type: ignore[return-value]

    def local_path(self, ref: ObjectRef) -> Path | None:
        return None

    def read(self, key: str, *, limit: int = 256 << 20) -> bytes:
        """A small object whole: a bundle, a manifest. ``limit``: bytes beyond which it is refused.

        Raises:
            NotFoundError, PermissionDeniedError: as for :meth:`find`.
            ConfigError: it is larger than that.
        """
        with translated(f"s3://{self.bucket}/{key}"):
            found = self.client.get_object(Bucket=self.bucket, Key=key, **self._owner)
            if found["ContentLength"] > limit:
                raise ConfigError(f"s3://{self.bucket}/{key} has {found['ContentLength']:,} bytes, more than {limit:,}")
            body: bytes = found["Body"].read()
        return body

    def _part(self, ref: ObjectRef, number: int) -> _Part:
        """One part, whole, with what S3 says of the object; retried, since a body may break off."""
        if ref.size == 0:
            return _Part(b"", {})
        start = number * PART
        span = {} if ref.size <= PART else {"Range": f"bytes={start}-{min(start + PART, ref.size) - 1}"}
        for attempt in range(1, TRIES + 1):
            try:
                return self._fetch(ref, start, span)
            except (InfrastructureError, BusyError):
                if attempt == TRIES:
                    raise
                self.sleep(0.1 * 2**attempt)
        raise AssertionError("unreachable")

    def _fetch(self, ref: ObjectRef, start: int, span: dict[str, str]) -> _Part:
        with translated(f"s3://{self.bucket}/{ref.key}"):
            got = self.client.get_object(
                Bucket=self.bucket, Key=ref.key, ChecksumMode="ENABLED", **_chosen(ref.version), **span, **self._owner
            )
            body = got.pop("Body")
            if span and not _is_range(got, span["Range"]):
                body.close()
                raise ConfigError(
                    f"s3://{self.bucket}/{ref.key} was asked for {span['Range']}, and {_answered(got)} came",
                    hint="objects over 8 MiB need a store that serves ranges: look at AWS_ENDPOINT_URL and at proxies",
                )
            data = body.read()
        if len(data) < min(PART, ref.size - start):
            raise InfrastructureError(f"s3://{self.bucket}/{ref.key} broke off after {start + len(data):,} bytes")
        return _Part(data, got)


def _is_range(got: dict[str, Any], asked: str) -> bool:
    """Whether an answer holds the bytes that were asked for; one without support for ranges has the whole object."""
    told = got.get("ContentRange")
    return str(told).startswith(f"{asked.replace('=', ' ')}/") if told else _status(got) == 206


def _answered(got: dict[str, Any]) -> str:
    return str(
        got.get("ContentRange") or f"the whole object (status {_status(got)}, {got.get('ContentLength', 0):,} bytes)"
    )


def _status(got: dict[str, Any]) -> int:
    return int(got.get("ResponseMetadata", {}).get("HTTPStatusCode", 200))


class _Stream(io.RawIOBase):
    """An object's bytes by parts. A sequential reader finds the next parts fetched already; a seek starts afresh."""

    def __init__(self, ref: ObjectRef, fetch: Callable[[ObjectRef, int], _Part], first: _Part) -> None:
        self._ref = ref
        self._fetch = fetch
        self._here = 0
        self._number, self._data = 0, first.data
        self._first = first
        self._coming: deque[tuple[int, Future[_Part]]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._check = _Check.of(ref, first.head)
        self._check.add(0, first.data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._here

    def seek(self, offset: int, whence: int = 0, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._here, io.SEEK_END: self._ref.size}[whence]
        self._here = max(0, base + offset)
        return self._here

    def readinto(self, buffer: Any, /) -> int:
        number, inside = divmod(self._here, PART)
        if self._here >= self._ref.size:
            return 0
        if number != self._number:
            self._turn_to(number)
        view = memoryview(self._data)[inside : inside + len(buffer)]
        buffer[: len(view)] = view
        self._here += len(view)
        return len(view)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        self._coming.clear()
        self._data = b""
        super().close()

    def _turn_to(self, number: int) -> None:
        """Make part ``number`` the one at hand; fetch those behind it when the reader is on its way through."""
        on_the_way = number == self._number + 1
        while self._coming and self._coming[0][0] != number:
            self._coming.popleft()[1].cancel()
        if number == 0:
            part = self._first
        elif self._coming:
            part = self._coming.popleft()[1].result()
        else:
            part = self._fetch(self._ref, number)
        self._number, self._data = number, part.data
        self._check.add(number, part.data)
        if on_the_way:
            self._fetch_ahead()

    def _fetch_ahead(self) -> None:
        last = (self._ref.size - 1) // PART
        following = (self._coming[-1][0] if self._coming else self._number) + 1
        while len(self._coming) < AHEAD - 2 and following <= last:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(AHEAD - 2, thread_name_prefix="s3")
            self._coming.append((following, self._pool.submit(self._fetch, self._ref, following)))
            following += 1


# -- checksums ---------------------------------------------------------------------------------------------------------


class _Check:
    """Holds the bytes of a stream against the checksum of the whole object, if they came from first to last."""

    def __init__(self, ref: ObjectRef, name: str, wanted: str | None, made: Any) -> None:
        self._ref = ref
        self._name = name
        self._wanted = wanted
        self._made = made
        self._next = 0

    @classmethod
    def of(cls, ref: ObjectRef, head: dict[str, Any]) -> _Check:
        whole = head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
        if whole and (sha := head.get("ChecksumSHA256")) and "-" not in sha:
            return cls(ref, "SHA-256", sha, hashlib.sha256())
        if whole and (crc := head.get("ChecksumCRC32")) and "-" not in crc:
            return cls(ref, "CRC-32", crc, _Crc32())
        tag = _bare(str(head.get("ETag", "")))
        managed = head.get("ServerSideEncryption", "AES256") == "AES256" and not head.get("SSECustomerAlgorithm")
        if managed and re.fullmatch("[0-9a-f]{32}", tag):
            md5 = hashlib.md5(usedforsecurity=False)
            return cls(ref, "MD5", base64.b64encode(bytes.fromhex(tag)).decode(), md5)
        return cls(ref, "", None, None)

    def add(self, number: int, data: bytes) -> None:
        """Raises InfrastructureError after the last part, when the bytes are not those that were put."""
        if self._wanted is None or number != self._next:
            return
        self._made.update(data)
        self._next += 1
        if self._next * PART >= self._ref.size:
            got = base64.b64encode(self._made.digest()).decode()
            if got != self._wanted:
                raise InfrastructureError(
                    f"the bytes of {self._ref.key} that arrived are not those in the bucket: "
                    f"{self._name} {got}, expected {self._wanted}",
                    hint=f"lakectl run {self._ref.key}",
                )
            self._wanted = None


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def _digest(head: dict[str, Any]) -> str | None:
    """The content's SHA-256 in hex: as the bucket keeps it of the whole object, or as ``lakectl upload`` says."""
    said = str(head.get("Metadata", {}).get("sha256", ""))
    if re.fullmatch("[0-9a-f]{64}", said):
        return said
    sha = head.get("ChecksumSHA256")
    if not sha or head.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    with contextlib.suppress(binascii.Error):
        raw = base64.b64decode(sha, validate=True)
        return raw.hex() if len(raw) == 32 else None
    return None


# -- versions ----------------------------------------------------------------------------------------------------------


def _version(head: dict[str, Any]) -> str:
    version = head.get("VersionId")
    return str(version) if version and version != "null" else UNVERSIONED + _bare(head["ETag"])


def _bare(tag: str) -> str:
    return tag.strip('"')


def _chosen(version: str | None) -> dict[str, str]:
    """How a request says which version it means."""
    if version is None:
        return {}
    if version.startswith(UNVERSIONED):
        return {"IfMatch": f'"{version.removeprefix(UNVERSIONED)}"'}
    return {"VersionId": version}


def _ordinal(landed: datetime, tie: str) -> str:
    return f"{int(landed.timestamp()):010d}-{tie}"


def _padded(sequencer: str) -> str:
    return sequencer.upper().ljust(32, "0")


def _now(head: dict[str, Any]) -> int:
    """The bucket's clock, in seconds, when it answered; this machine's may be wrong."""
    date = head.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return int(parsedate_to_datetime(date).timestamp() if date else datetime.now(UTC).timestamp())


# -- Aurora ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AuroraLogin:
    """A login by IAM: :meth:`dsn` signs a fresh token, which opens the database for 15 minutes; sessions outlive it.

    Signing needs no call to AWS. Source: Aurora User Guide, "IAM database authentication".
    """

    host: str
    port: int
    database: str
    user: str
    authority: str
    """The file with the certificates that may sign the server's; the host name is checked too."""
    region: str | None = None

    def dsn(self) -> str:
        """A libpq connection string; hold it no longer than it takes to connect.

        Raises:
            PermissionDeniedError: there are no credentials to sign with.
        """
        signer = _client("rds", self.region, None)
        with translated(f"the login of {self.user}"):
            token = signer.generate_db_auth_token(DBHostname=self.host, Port=self.port, DBUsername=self.user)
        parts = {"host": self.host, "port": self.port, "dbname": self.database, "user": self.user, "password": token}
        tls = {"sslmode": "verify-full", "sslrootcert": self.authority}
        return " ".join(f"{name}={_conninfo(value)}" for name, value in (parts | tls).items())


def _conninfo(value: object) -> str:
    """A value as libpq reads it, https://www.postgresql.org/docs/17/libpq-connect.html#LIBPQ-CONNSTRING."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


# -- errors and clients ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Let AWS errors out as ours; ``what`` was asked for."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise translate(error, what) from error


def translate(error: ClientError | BotoCoreError, what: str) -> LakectlError:
    """The error of ours that an AWS error means."""
    import botocore.exceptions as aws

    if isinstance(error, aws.ClientError):
        return _refusal(error, what)
    no_credentials = (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError)
    expired = (aws.TokenRetrievalError, aws.UnauthorizedSSOTokenError, aws.SSOTokenLoadError)
    if isinstance(error, no_credentials + expired):
        return PermissionDeniedError(f"no valid AWS credentials to read {what}: {error}", hint="aws sso login")
    if isinstance(error, aws.NoRegionError | aws.ProfileNotFound):
        return ConfigError(f"{what} cannot be asked for: {error}", hint="set AWS_REGION, or --profile and --region")
    return InfrastructureError(f"{what} could not be read: {error}")


def _refusal(error: ClientError, what: str) -> LakectlError:  # noqa: PLR0911  a table of cases
    facts = error.response.get("Error", {})
    code, text = str(facts.get("Code", "")), str(facts.get("Message", ""))
    if code == "NoSuchBucket":
        return NotFoundError(f"the bucket of {what} is not there", hint="lakectl doctor")
    if code in _MISSING:
        return NotFoundError(f"there is no {what}", hint="lakectl objects")
    if code in ("412", "PreconditionFailed"):
        return NotFoundError(f"{what} was overwritten; this version is gone")
    if code in _THROTTLED:
        return BusyError(f"S3 is busy with {what}: {code}", hint="run the same command again")
    if code in _EXPIRED:
        return PermissionDeniedError(f"the AWS credentials have expired ({code})", hint="aws sso login")
    if code in _REFUSED:
        return PermissionDeniedError(f"{what} is not there, or these credentials may not read it: {text or code}")
    if code == "InvalidObjectState":
        return InfrastructureError(f"{what} is archived", hint="restore it: aws s3api restore-object")
    return InfrastructureError(f"{what} could not be read: {code} {text}".rstrip())


@functools.cache
def _client(service: str, region: str | None, profile: str | None) -> Any:
    """Clients are costly to make (about 0.1 s) and safe to share between threads."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    settings = Config(
        retries={"mode": "standard", "total_max_attempts": 5},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=16,
        tcp_keepalive=True,
        user_agent_extra="lakectl",
    )
    try:
        return boto3.Session(region_name=region, profile_name=profile).client(service, config=settings)
    except BotoCoreError as error:
        raise translate(error, service.upper()) from error
