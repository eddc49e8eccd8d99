"""An upload that was killed goes on where it was: a real process, a real socket, and moto's S3 behind it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from lakectl.aws.s3 import PART

PARTS = 6
UPLOAD = """
import sys
from pathlib import Path
import boto3
from lakectl.aws.s3 import Bucket, digest_of
from lakectl.aws.session import Aws, Identity

client = boto3.client("s3", region_name="us-east-1")
me = Identity("123456789012", "arn:aws:iam::123456789012:user/me", "us-east-1")
bucket = Bucket(Aws(me, lambda _: client), "raw")
path = Path(sys.argv[1])
print(bucket.upload(path, "raw/a/large.bin", digest=digest_of(path), journal=Path(sys.argv[2])))
"""


class Counted:
    """S3, with its parts counted.

    Attributes:
        arrived: the numbers of the parts that were taken in.
        hold: of the first process, parts beyond this number are not answered; None: no part is taken in any more.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self._lock = threading.Condition()
        self.arrived: list[int] = []
        self.underway = 0
        self.hold: int | None = 3

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        asked = urllib.parse.parse_qs(environ["QUERY_STRING"])
        if environ["REQUEST_METHOD"] == "PUT" and "partNumber" in asked:
            with self._lock:
                first = "app/first" in environ["HTTP_USER_AGENT"]
                if first and (self.hold is None or len(self.arrived) >= self.hold):
                    self._lock.wait_for(lambda: self.hold is None, 60)
                    start("503 Slow Down", [])
                    return [b""]
                self.underway += 1
            try:
                answer = list(self._application(environ, start))
            finally:
                with self._lock:
                    self.underway -= 1
                    self._lock.notify_all()
            with self._lock:
                self.arrived.append(int(asked["partNumber"][0]))
                self._lock.notify_all()
            return answer
        return self._application(environ, start)

    def wait_for(self, count: int) -> None:
        with self._lock:
            assert self._lock.wait_for(lambda: len(self.arrived) >= count, 60)

    def settle(self) -> None:
        """What is being taken in of the dead process is in, or refused."""
        with self._lock:
            assert self._lock.wait_for(lambda: self.underway == 0, 60)

    def release(self) -> None:
        with self._lock:
            self.hold = None
            self._lock.notify_all()


@pytest.fixture
def s3() -> Iterator[tuple[Counted, str]]:
    counted = Counted(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, counted, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield counted, f"http://127.0.0.1:{server.server_port}"
    counted.release()
    server.shutdown()
    thread.join()
    server.server_close()


def test_after_kill_9_only_the_parts_that_were_not_there_are_sent_again(
    s3: tuple[Counted, str], tmp_path: Path
) -> None:
    counted, url = s3
    path, journal = tmp_path / "large.bin", tmp_path / "journal"
    block = os.urandom(1 << 20)
    with path.open("wb") as stream:
        for number in range((PARTS - 1) * (PART >> 20) + 3):
            stream.write(number.to_bytes(4, "big") + block[4:])
    environment = os.environ | {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
    )
    client.create_bucket(Bucket="raw")
    client.put_bucket_versioning(Bucket="raw", VersioningConfiguration={"Status": "Enabled"})
    command = [sys.executable, "-c", UPLOAD, str(path), str(journal)]

    killed = subprocess.Popen(command, env=environment | {"AWS_SDK_UA_APP_ID": "first"})
    counted.wait_for(3)
    killed.kill()
    assert killed.wait() == -9
    counted.release()
    counted.settle()
    there = {part["PartNumber"] for part in _parts(client)}
    assert len(there) >= 3
    assert client.list_object_versions(Bucket="raw").get("Versions") is None

    counted.arrived.clear()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert set(counted.arrived) == set(range(1, PARTS + 1)) - there
    assert len(counted.arrived) == PARTS - len(there)
    body = client.get_object(Bucket="raw", Key="raw/a/large.bin", VersionId=done.stdout.strip())["Body"].read()
    assert hashlib.sha256(body).digest() == hashlib.sha256(path.read_bytes()).digest()
    assert not list(journal.iterdir())
    client.close()


def _parts(client: Any) -> list[dict[str, Any]]:
    (upload,) = client.list_multipart_uploads(Bucket="raw")["Uploads"]
    found: list[dict[str, Any]] = client.list_parts(Bucket="raw", Key="raw/a/large.bin", UploadId=upload["UploadId"])[
        "Parts"
    ]
    return found
