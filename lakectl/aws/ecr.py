"""The image repository: which digest a tag has, a login for the builder, and its end."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from lakectl.aws.refusals import RefusedError
from lakectl.aws.session import Aws

_MISSING = ("ImageNotFoundException", "RepositoryNotFoundException")
_BATCH = 100
"""Images in one BatchDeleteImage."""


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """A login for 12 hours. Never on a command line."""

    registry: str
    """Host name, without a scheme."""
    user: str
    password: str

    def __repr__(self) -> str:
        return f"RegistryLogin({self.registry!r})"


class Repository:
    """One ECR repository, by its name."""

    def __init__(self, aws: Aws, name: str) -> None:
        self._aws = aws
        self.name = name

    def digest(self, tag: str) -> str | None:
        """``sha256:…`` of a tag; None when there is no such image, or no repository."""
        found = self._image({"imageTag": tag})
        return None if found is None else str(found["imageDigest"])

    def size(self, digest: str) -> int | None:
        """Compressed bytes of an image."""
        found = self._image({"imageDigest": digest})
        return None if found is None else int(found.get("imageSizeInBytes") or 0)

    def _image(self, which: dict[str, str]) -> dict[str, Any] | None:
        try:
            answer = self._aws.call("ecr", "describe_images", repositoryName=self.name, imageIds=[which])
        except RefusedError as refusal:
            if refusal.code in _MISSING:
                return None
            raise
        details: list[dict[str, Any]] = answer.get("imageDetails") or []
        return details[0] if details else None

    def login(self) -> RegistryLogin:
        """Credentials for push and pull."""
        found = self._aws.call("ecr", "get_authorization_token")["authorizationData"][0]
        user, _, password = base64.b64decode(found["authorizationToken"]).decode().partition(":")
        return RegistryLogin(found["proxyEndpoint"].split("://", 1)[-1].rstrip("/"), user, password)

    def empty(self) -> int:
        """Delete every image; how many there were."""
        try:
            images = list(self._aws.pages("ecr", "list_images", "imageIds", repositoryName=self.name))
        except RefusedError as refusal:
            if refusal.code in _MISSING:
                return 0
            raise
        digests = sorted({image["imageDigest"] for image in images if image.get("imageDigest")})
        for start in range(0, len(digests), _BATCH):
            batch = [{"imageDigest": digest} for digest in digests[start : start + _BATCH]]
            self._aws.call("ecr", "batch_delete_image", repositoryName=self.name, imageIds=batch)
        return len(digests)
