"""Who we are in AWS, where, and the one door that every call goes through.

:func:`connect` answers the questions that have to be answered before anything is touched: are there credentials, are
they valid, is this the account that the stage may touch, is there a region. Each "no" names the next command.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakectl.aws.refusals import Login, translated
from lakectl.errors import ConfigError, PermissionDeniedError

if TYPE_CHECKING:
    from botocore.config import Config

_ATTEMPTS = 6
"""Of one call, throttling and broken connections included (botocore's standard mode, exponential with jitter)."""

_OPTIONAL = frozenset({"service-quotas", "resourcegroupstaggingapi"})
"""Services that are only asked for advice; one more attempt is enough."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller, as STS knows it."""

    account: str
    """12 digits."""
    arn: str
    region: str

    @property
    def partition(self) -> str:
        """``aws``, ``aws-cn`` or ``aws-us-gov``."""
        return self.arn.split(":")[1]


class Aws:
    """One account and region, opened.

    Args:
        identity: who calls, and where.
        make: a client by its service's name.
        login: how the credentials came about, for the advice when they expire on the way.
        keys: botocore's credentials.
    """

    def __init__(
        self,
        identity: Identity,
        make: Callable[[str], Any],
        login: Login | None = None,
        keys: Callable[[], Any] = lambda: None,
    ) -> None:
        self.identity = identity
        self._make = make
        self._login = login or Login()
        self._keys = keys
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    @property
    def account(self) -> str:
        """12 digits."""
        return self.identity.account

    @property
    def region(self) -> str:
        """Of every call."""
        return self.identity.region

    def client(self, service: str) -> Any:
        """The client of a service; made once, may be used by several threads."""
        with self._lock:
            if service not in self._clients:
                with translated(self._login, service):
                    self._clients[service] = self._make(service)
            return self._clients[service]

    def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """One call; arguments that are None are left out.

        Raises:
            PermissionDeniedError: credentials expired, or a right is missing (the hint says which command helps).
            BusyError: throttled beyond all attempts, or the connection broke.
            RefusedError: the service said no for a reason of its own.
            InfrastructureError: no connection.
        """
        method = getattr(self.client(service), operation)
        with translated(self._login, f"{service}.{operation}"):
            answer: dict[str, Any] = method(**{name: value for name, value in arguments.items() if value is not None})
        return answer

    def pages(self, service: str, operation: str, *lists: str, **arguments: Any) -> Iterator[Any]:
        """The elements of ``lists`` in every page of a listing, in their order."""
        client = self.client(service)
        given = {name: value for name, value in arguments.items() if value is not None}
        with translated(self._login, f"{service}.{operation}"):
            for page in client.get_paginator(operation).paginate(**given):
                for name in lists:
                    yield from page.get(name) or ()

    def stream(self, body: Any, size: int = 1 << 20) -> Iterator[bytes]:
        """A streamed body in chunks, its failures told in our words."""
        with translated(self._login, "s3.get_object"):
            yield from body.iter_chunks(size)

    def credentials(self) -> dict[str, str]:
        """The caller's credentials as environment variables, for a container on this machine; never shown."""
        with translated(self._login, "credentials"):
            found = self._keys()
            frozen = found.get_frozen_credentials() if found is not None else None
        if frozen is None:
            return {}
        named = {
            "AWS_ACCESS_KEY_ID": frozen.access_key,
            "AWS_SECRET_ACCESS_KEY": frozen.secret_key,
            "AWS_SESSION_TOKEN": frozen.token,
        }
        return {name: value for name, value in named.items() if value}

    def elsewhere(self, region: str) -> Aws:
        """The same account in another region; only for listings."""
        return Aws(Identity(self.account, self.identity.arn, region), self._make, self._login, self._keys)


def connect(
    *,
    profile: str | None = None,
    region: str | None = None,
    expected_account: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Aws:
    """Open an account and say who we are there. One call to STS.

    Args:
        profile: of the AWS configuration files; None: the default chain.
        region: None: the profile's.
        expected_account: refuse any other.
        environment: ``os.environ`` unless given.

    Raises:
        PermissionDeniedError: no credentials, expired ones, or the wrong account.
        ConfigError: no such profile, no region.
    """
    import boto3

    env = os.environ if environment is None else environment
    named = profile or env.get("AWS_PROFILE")
    with translated(Login(named), "credentials"):
        session = boto3.Session(profile_name=profile, region_name=region)
        login = Login(named, _kind(session, env))
    with translated(login, "credentials"):
        if session.region_name is None:
            raise ConfigError("no AWS region is set", hint="--region eu-central-1, or region in [stage.NAME]")
        caller = session.client("sts", config=_config("sts")).get_caller_identity()
    identity = Identity(caller["Account"], caller["Arn"], session.region_name)
    if expected_account is not None and identity.account != expected_account:
        raise PermissionDeniedError(
            f"these credentials are of account {identity.account}, and the stage may only touch {expected_account}",
            hint="name the profile of the right account: --profile NAME, or profile in [stage.NAME]",
        )
    return Aws(
        identity,
        lambda service: session.client(service, config=_config(service)),
        login,
        session.get_credentials,
    )


def _config(service: str) -> Config:
    from botocore.config import Config

    return Config(
        retries={"mode": "standard", "max_attempts": 2 if service in _OPTIONAL else _ATTEMPTS},
        connect_timeout=10,
        read_timeout=70,
        max_pool_connections=16,
        tcp_keepalive=True,
        user_agent_extra="lakectl",
    )


def _kind(session: Any, environment: Mapping[str, str]) -> str | None:
    """How a profile's credentials come about, read from its settings; nothing is asked of the network."""
    settings = session._session.get_scoped_config()
    explicit = session.profile_name != "default" or "AWS_PROFILE" in environment
    if environment.get("AWS_ACCESS_KEY_ID") and not explicit:
        return "environment"
    for kind, marks in (
        ("sso", ("sso_session", "sso_start_url")),
        ("login", ("login_session",)),
        ("process", ("credential_process",)),
        ("role", ("role_arn",)),
        ("keys", ("aws_access_key_id",)),
    ):
        if any(mark in settings for mark in marks):
            if kind == "role" and "source_profile" in settings:
                source = session._session.full_config.get("profiles", {}).get(settings["source_profile"], {})
                return "sso" if "sso_session" in source or "sso_start_url" in source else kind
            return kind
    return "environment" if environment.get("AWS_ACCESS_KEY_ID") else None
