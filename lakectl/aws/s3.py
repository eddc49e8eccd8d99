"""Buckets: objects up in parallel parts that can be resumed, read back, listed with their versions, and emptied.

An object's content digest (SHA-256, hexadecimal) travels as its metadata ``sha256``: S3's own checksum of a multipart
object is one of its parts. Every part carries its SHA-256, which S3 verifies. What was uploaded of an interrupted file
is found again through a note in ``journal``: which upload, for exactly this content.
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lakectl.aws.refusals import RefusedError
from lakectl.aws.session import Aws
from lakectl.errors import InfrastructureError, NotFoundError, UsageError

PART = 8 << 20
"""Bytes of a part, at least; S3 takes 10,000 parts and 5 TiB.
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""
_MOST_PARTS = 9_000
_WORKERS = 4
_LARGEST = 5 << 40
_MISSING = ("404", "NoSuchKey", "NoSuchVersion", "NotFound")
_NO_BUCKET = ("NoSuchBucket",)
DIGEST = "sha256"
"""The name of the metadata that holds the content's digest."""


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """One version of one object."""

    key: str
    version: str
    size: int
    modified: datetime
    digest: str | None = None
    latest: bool = True


class Bucket:
    """One bucket of the account; a bucket of that name in another account is refused by S3 (ExpectedBucketOwner)."""

    def __init__(self, aws: Aws, name: str) -> None:
        self._aws = aws
        self.name = name

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        try:
            return self._aws.call("s3", operation, Bucket=self.name, ExpectedBucketOwner=self._aws.account, **arguments)
        except RefusedError as refusal:
            if refusal.code in _NO_BUCKET:
                raise refusal.saying(f"bucket {self.name} is not there", hint="lakectl doctor") from refusal
            raise

    # -- looking -------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the bucket is there, and this account's.

        Raises:
            PermissionDeniedError: it is someone else's, or may not be looked at.
        """
        try:
            self._call("head_bucket")
        except RefusedError as refusal:
            if refusal.code in (*_MISSING, *_NO_BUCKET):
                return False
            raise
        return True

    def head(self, key: str, version: str | None = None) -> ObjectFacts | None:
        """One version of an object, the newest when None; None when there is none."""
        try:
            facts = self._call("head_object", Key=key, VersionId=version)
        except RefusedError as refusal:
            if refusal.code in (*_MISSING, *_NO_BUCKET):
                return None
            if refusal.code in ("400", "InvalidArgument") and version is not None:
                return None
            raise
        return ObjectFacts(
            key,
            facts.get("VersionId", "null"),
            facts["ContentLength"],
            facts["LastModified"],
            facts.get("Metadata", {}).get(DIGEST),
        )

    def newest(self, prefix: str) -> Iterator[ObjectFacts]:
        """The newest version of every key that starts with ``prefix``, by key; deleted ones are left out."""
        return (facts for facts in self.versions(prefix) if facts.latest)

    def versions(self, prefix: str) -> Iterator[ObjectFacts]:
        """Every version of every key that starts with ``prefix``; of a key, the newest first."""
        found = self._aws.pages(
            "s3",
            "list_object_versions",
            "Versions",
            Bucket=self.name,
            Prefix=prefix,
            ExpectedBucketOwner=self._aws.account,
        )
        for item in found:
            yield ObjectFacts(
                item["Key"], item["VersionId"], item["Size"], item["LastModified"], latest=bool(item["IsLatest"])
            )

    def keys(self, prefix: str) -> list[str]:
        """Keys that start with ``prefix``, in order."""
        found = self._aws.pages(
            "s3",
            "list_objects_v2",
            "Contents",
            Bucket=self.name,
            Prefix=prefix,
            ExpectedBucketOwner=self._aws.account,
        )
        return [item["Key"] for item in found]

    def read(self, key: str, version: str | None = None) -> bytes | None:
        """A small object, whole; None when there is none."""
        try:
            answer = self._call("get_object", Key=key, VersionId=version)
        except RefusedError as refusal:
            if refusal.code in (*_MISSING, *_NO_BUCKET):
                return None
            raise
        return b"".join(self._aws.stream(answer["Body"]))

    # -- putting -------------------------------------------------------------------------------------------------

    def write(self, key: str, content: bytes, *, digest: str | None = None) -> str:
        """A small object in one call; its version."""
        checksum = hashlib.sha256(content)
        answer = self._call(
            "put_object",
            Key=key,
            Body=content,
            ContentLength=len(content),
            ChecksumSHA256=base64.b64encode(checksum.digest()).decode(),
            Metadata={DIGEST: digest or checksum.hexdigest()},
        )
        return str(answer.get("VersionId", "null"))

    def upload(
        self,
        path: Path,
        key: str,
        *,
        digest: str,
        journal: Path | None = None,
        on_bytes: Callable[[int], None] = lambda _done: None,
    ) -> str:
        """Upload a file, large ones in parallel parts; the new version.

        Peak memory is a few blocks for each of four workers. Interrupted, the same call goes on where it was.

        Args:
            path: a regular file that does not change meanwhile.
            key: where to.
            digest: SHA-256 of its content, hexadecimal.
            journal: the folder that remembers uploads under way; None: start anew every time.
            on_bytes: gets the bytes done so far, from any thread.

        Raises:
            UsageError: larger than S3 takes (5 TiB).
            InfrastructureError: the content changed while it was read.
        """
        size = path.stat().st_size
        if size > _LARGEST:
            raise UsageError(f"{path} is larger than 5 TiB, the most that S3 holds in an object")
        if size <= PART:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                raise InfrastructureError(f"{path} changed while it was read", hint="upload it again")
            version = self.write(key, content, digest=digest)
            on_bytes(size)
            return version
        return _Parts(self, path, size, key, digest, journal, on_bytes).run()

    # -- taking away ---------------------------------------------------------------------------------------------

    def remove(self, key: str, version: str | None = None) -> None:
        """Delete one version for good; without a version, hide the key."""
        self._call("delete_object", Key=key, VersionId=version)

    def empty(self, *, prefix: str = "", on_count: Callable[[int], None] = lambda _count: None) -> int:
        """Delete every version, every delete marker and every upload under way; how many there were.

        Raises:
            InfrastructureError: some could not be deleted; the first reason is told.
        """
        count = 0
        batch: list[dict[str, str]] = []
        listed = self._aws.pages(
            "s3",
            "list_object_versions",
            "Versions",
            "DeleteMarkers",
            Bucket=self.name,
            Prefix=prefix or None,
            ExpectedBucketOwner=self._aws.account,
        )
        try:
            for item in listed:
                batch.append({"Key": item["Key"], "VersionId": item["VersionId"]})
                if len(batch) == 1000:
                    count += self._delete(batch)
                    on_count(count)
                    batch = []
            if batch:
                count += self._delete(batch)
                on_count(count)
            for item in self._aws.pages(
                "s3",
                "list_multipart_uploads",
                "Uploads",
                Bucket=self.name,
                Prefix=prefix or None,
                ExpectedBucketOwner=self._aws.account,
            ):
                self._call("abort_multipart_upload", Key=item["Key"], UploadId=item["UploadId"])
        except RefusedError as refusal:
            if refusal.code in _NO_BUCKET:
                return count
            raise
        return count

    def _delete(self, batch: list[dict[str, str]]) -> int:
        answer = self._call("delete_objects", Delete={"Objects": batch, "Quiet": True})
        for error in answer.get("Errors", ()):
            raise InfrastructureError(
                f"{error.get('Key')} cannot be deleted from {self.name}: {error.get('Message') or error.get('Code')}",
                hint="object lock, or a policy of the bucket, forbids it",
            )
        return len(batch)

    def delete(self) -> None:
        """Delete the empty bucket; no error when it is gone already."""
        try:
            self._call("delete_bucket")
        except RefusedError as refusal:
            if refusal.code not in _NO_BUCKET:
                raise


class _Parts:
    """One multipart upload."""

    def __init__(
        self,
        bucket: Bucket,
        path: Path,
        size: int,
        key: str,
        digest: str,
        journal: Path | None,
        on_bytes: Callable[[int], None],
    ) -> None:
        self.bucket = bucket
        self.path = path
        self.size = size
        self.key = key
        self.digest = digest
        self.part = max(PART, -(-size // (_MOST_PARTS << 20)) << 20)
        self.on_bytes = on_bytes
        self.note = None
        if journal is not None:
            name = hashlib.sha256(f"{bucket.name}/{key}/{digest}/{self.part}".encode()).hexdigest()[:40]
            self.note = journal / name
        self._done = 0
        self._lock = threading.Lock()

    def run(self) -> str:
        upload, there = self._resumed() or (self._begun(), {})
        numbers = range(1, -(-self.size // self.part) + 1)
        checksums: dict[int, tuple[str, str]] = {}
        stop = threading.Event()

        def one(number: int) -> None:
            if stop.is_set():
                return
            checksums[number] = self._send(upload, number, there.get(number))

        with concurrent.futures.ThreadPoolExecutor(_WORKERS) as pool:
            futures = [pool.submit(one, number) for number in numbers]
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
            except BaseException:
                stop.set()
                raise
        if self._whole() != self.digest:
            self._forget(upload)
            raise InfrastructureError(f"{self.path} changed while it was read", hint="upload it again")
        answer = self.bucket._call(
            "complete_multipart_upload",
            Key=self.key,
            UploadId=upload,
            MultipartUpload={
                "Parts": [
                    {"PartNumber": number, "ETag": checksums[number][0], "ChecksumSHA256": checksums[number][1]}
                    for number in numbers
                ]
            },
        )
        if self.note is not None:
            self.note.unlink(missing_ok=True)
        return str(answer.get("VersionId", "null"))

    def _whole(self) -> str:
        """The digest of what is there now; a file that someone wrote to meanwhile must not be believed."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def _begun(self) -> str:
        answer = self.bucket._call(
            "create_multipart_upload", Key=self.key, ChecksumAlgorithm="SHA256", Metadata={DIGEST: self.digest}
        )
        upload = str(answer["UploadId"])
        if self.note is not None:
            self.note.parent.mkdir(parents=True, exist_ok=True)
            self.note.write_text(upload, encoding="ascii")
        return upload

    def _resumed(self) -> tuple[str, dict[int, dict[str, Any]]] | None:
        """An upload of this very content that was interrupted, and its parts."""
        if self.note is None or not self.note.is_file():
            return None
        upload = self.note.read_text(encoding="ascii").strip()
        try:
            parts = self.bucket._aws.pages(
                "s3",
                "list_parts",
                "Parts",
                Bucket=self.bucket.name,
                Key=self.key,
                UploadId=upload,
                ExpectedBucketOwner=self.bucket._aws.account,
            )
            return upload, {part["PartNumber"]: part for part in parts}
        except RefusedError as refusal:
            if refusal.code == "NoSuchUpload":
                return None
            raise

    def _forget(self, upload: str) -> None:
        with contextlib.suppress(InfrastructureError):
            self.bucket._call("abort_multipart_upload", Key=self.key, UploadId=upload)
        if self.note is not None:
            self.note.unlink(missing_ok=True)

    @staticmethod
    def _is(there: dict[str, Any], body: _Slice, checksum: str) -> bool:
        """Whether a part that is there has this content. Some stores list no checksums: then by its MD5, the ETag."""
        if there.get("ChecksumSHA256"):
            return bool(there["ChecksumSHA256"] == checksum)
        body.seek(0)
        md5 = hashlib.file_digest(body, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        return str(there.get("ETag", "")).strip('"') == md5

    def _send(self, upload: str, number: int, there: dict[str, Any] | None) -> tuple[str, str]:
        """Upload one part, unless S3 has it with the same checksum; its ETag and checksum."""
        start = (number - 1) * self.part
        length = min(self.part, self.size - start)
        with _Slice(self.path, start, length) as body:
            checksum = base64.b64encode(hashlib.file_digest(body, "sha256").digest()).decode()
            if there is not None and there.get("Size") == length and self._is(there, body, checksum):
                etag = str(there["ETag"])
            else:
                body.seek(0)
                answer = self.bucket._call(
                    "upload_part",
                    Key=self.key,
                    UploadId=upload,
                    PartNumber=number,
                    Body=body,
                    ContentLength=length,
                    ChecksumSHA256=checksum,
                )
                etag = str(answer["ETag"])
        with self._lock:
            self._done += length
            self.on_bytes(self._done)
        return etag, checksum


class _Slice(io.RawIOBase):
    """A part of a file as a stream of its own, so that no part is ever in memory."""

    def __init__(self, path: Path, start: int, length: int) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._start = start
        self._length = length
        self._at = 0
        self._file.seek(start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def __len__(self) -> int:
        return self._length

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer)[: max(self._length - self._at, 0)]
        count = self._file.readinto(room) or 0 if len(room) else 0
        self._at += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = min(max(base + offset, 0), self._length)
        self._file.seek(self._start + self._at)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()


def digest_of(path: Path, on_bytes: Callable[[int], None] = lambda _done: None) -> str:
    """SHA-256 of a file's content, hexadecimal; raises NotFoundError."""
    digest, done = hashlib.sha256(), 0
    try:
        with path.open("rb", buffering=0) as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
                done += len(chunk)
                on_bytes(done)
    except FileNotFoundError:
        raise NotFoundError(f"no file {path}") from None
    return digest.hexdigest()
