"""Aurora from a template: a real PostgreSQL before the resource is complete, TLS, IAM logins.

PostgreSQL asks an LDAP server whether a password is right (``images/postgres/docker-entrypoint.sh``); :class:`_Bind`
is that server. The password is an IAM token, so the answer is: signed by a principal of the account, for this endpoint
and user, fresh, and allowed ``rds-db:connect`` by its policies.
"""

from __future__ import annotations

import logging
import os
import socketserver
import threading
import time
from pathlib import Path
from typing import Any

from ministack.core import iam_evaluator, rds_iam
from ministack.core.responses import get_account_id, get_region, request_scope
from ministack.services import rds
from ministack.services.cloudformation import provisioners

TOKEN_PORT = 4389
AUTHORITY = Path(os.environ["E2E_STATE"]) / "rds-ca.pem"
"""The certificate of the authority that signs the databases' certificates: this account's RDS bundle."""

_log = logging.getLogger("e2e.databases")
_plain_attributes = provisioners._rds_db_cluster_attrs
_plain_run = rds._run_rds_container
_owners: dict[str, tuple[str, str, str]] = {}
"""Account, region and cluster by a container's host name."""


def mend() -> None:
    replaced = {
        "_rds_db_cluster_attrs": _attributes,
        "_rds_db_cluster_create": _create_cluster,
        "_rds_db_cluster_delete": _delete_cluster,
        "_rds_db_instance_create": _create_instance,
        "_rds_db_instance_delete": _delete_instance,
    }
    for name, function in replaced.items():
        setattr(provisioners, name, function)  # the module's own update handlers call these by name
    handlers = provisioners._RESOURCE_HANDLERS
    handlers["AWS::RDS::DBCluster"].update(create=_create_cluster, delete=_delete_cluster)
    handlers["AWS::RDS::DBInstance"].update(create=_create_instance, delete=_delete_instance)
    rds._run_rds_container = _run_container
    AUTHORITY.write_text(rds.pg_ca_cert_pem())
    server = socketserver.ThreadingTCPServer((os.environ["E2E_BRIDGE"], TOKEN_PORT), _Bind, bind_and_activate=False)
    server.allow_reuse_address = server.daemon_threads = True
    server.server_bind()
    server.server_activate()
    threading.Thread(target=server.serve_forever, daemon=True, name="rds-tokens").start()


# -- resources ---------------------------------------------------------------------------------------------------------


def _create_cluster(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
    named = properties.get("DBClusterIdentifier")
    name = named or provisioners._physical_name(stack, logical_id, lowercase=True, max_len=63)
    flat = _flat(properties) | {"DBClusterIdentifier": name}
    if key := (properties.get("MasterUserSecret") or {}).get("KmsKeyId"):
        flat["MasterUserSecretKmsKeyId"] = key
    _call(rds._create_db_cluster, flat, "AWS::RDS::DBCluster", "create")
    cluster = rds._clusters[name]
    iam = provisioners._cfn_bool(properties.get("EnableIAMDatabaseAuthentication", False))
    cluster["IAMDatabaseAuthenticationEnabled"] = cluster["EnableIAMDatabaseAuthentication"] = iam
    started = rds._start_cluster_shared_container(name, cluster, remove_stale=True)
    if started.get("failed"):
        rds._clusters.pop(name, None)
        raise ValueError(f"no container for {cluster['Engine']} {cluster['EngineVersion']}; see the emulator's log")
    if started.get("started"):
        _await_ready(cluster, started)
    return name, _attributes(cluster)


def _await_ready(cluster: dict[str, Any], started: dict[str, Any]) -> None:
    docker, deadline = rds._get_docker(), time.monotonic() + 120

    def alive() -> bool:
        box = docker.containers.get(cluster["_shared_container_id"])
        return box.status not in ("exited", "dead", "removing") and time.monotonic() < deadline

    ready = rds._wait_for_database_ready(
        started["readiness_host"],
        started["readiness_port"],
        cluster["Engine"],
        cluster["MasterUsername"],
        cluster["_MasterUserPassword"],
        cluster.get("DatabaseName") or "mydb",
        alive,
    )
    if not ready:
        raise ValueError("the database container did not become ready")
    cluster["_shared_storage_initialized"] = cluster["_shared_container_ready"] = True
    rds._sync_cluster_endpoints(cluster)


def _attributes(cluster: dict[str, Any]) -> dict[str, Any]:
    attributes = dict(_plain_attributes(cluster))
    if arn := (cluster.get("MasterUserSecret") or {}).get("SecretArn"):
        attributes["MasterUserSecret.SecretArn"] = arn
    return attributes


def _delete_cluster(name: str, _properties: dict[str, Any]) -> None:
    """Protected is what the account says now, not what the template said."""
    cluster = rds._clusters.get(name)
    if cluster is not None:
        gone = {"DBClusterIdentifier": name, "SkipFinalSnapshot": "true"}
        _call(rds._delete_db_cluster, gone, "AWS::RDS::DBCluster", "delete")


def _create_instance(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
    named = properties.get("DBInstanceIdentifier")
    name = named or provisioners._physical_name(stack, logical_id, lowercase=True, max_len=63)
    renamed = {"VpcSecurityGroupIds" if key == "VPCSecurityGroups" else key: it for key, it in properties.items()}
    _call(rds._create_db_instance, _flat(renamed) | {"DBInstanceIdentifier": name}, "AWS::RDS::DBInstance", "create")
    for _ in range(600):
        instance = rds._instances[name]
        if instance["DBInstanceStatus"] in ("available", "failed"):
            break
        time.sleep(0.2)
    if instance["DBInstanceStatus"] != "available":
        raise ValueError(f"AWS::RDS::DBInstance create failed: status {instance['DBInstanceStatus']}")
    return name, provisioners._rds_db_instance_attrs(instance)


def _delete_instance(name: str, _properties: dict[str, Any]) -> None:
    if name in rds._instances:
        gone = {"DBInstanceIdentifier": name, "SkipFinalSnapshot": "true"}
        _call(rds._delete_db_instance, gone, "AWS::RDS::DBInstance", "delete")


def _flat(properties: dict[str, Any]) -> dict[str, str]:
    """Template properties as the parameters of RDS's query protocol."""
    flat: dict[str, str] = {}
    for key, value in properties.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{inner}": _text(it) for inner, it in value.items() if it is not None})
        elif isinstance(value, list) and key != "Tags":
            flat.update({f"{key}.member.{number}": _text(it) for number, it in enumerate(value, 1)})
        elif value is not None and key != "Tags":
            flat[key] = _text(value)
    return flat


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _call(function: Any, parameters: dict[str, str], kind: str, action: str) -> None:
    status, _headers, body = function(parameters)[:3]
    if status >= 400:
        provisioners._rds_raise(status, body, kind, action)


# -- logins with a token -----------------------------------------------------------------------------------------------


def _run_container(docker: Any, engine: str, options: dict[str, Any], **names: Any) -> Any:
    options.setdefault("extra_hosts", {})["host.docker.internal"] = os.environ["E2E_BRIDGE"]
    options["hostname"] = f"pg-{abs(hash(options['name'])):x}"
    options["environment"] = dict(options["environment"], E2E_TOKEN_PORT=str(TOKEN_PORT))
    _owners[options["hostname"]] = (get_account_id(), get_region(), options["labels"].get("cluster_id", ""))
    return _plain_run(docker, engine, options, **names)


class _Bind(socketserver.StreamRequestHandler):
    """One LDAP simple bind: is this token good for this user? RFC 4511, sections 4.2 and 5.1."""

    def handle(self) -> None:
        while message := _read_message(self.rfile):
            number, operation, body = message
            if operation != 0x60:  # not a bind request: the client is leaving
                return
            _, rest = _element(body)
            name, rest = _element(rest)
            word, _ = _element(rest)
            refusal = refused(name.decode(), word.decode("latin-1"))
            if refusal:
                _log.warning("the login of %s is refused: %s", name.decode(), refusal)
            result = bytes([0x0A, 1, 49 if refusal else 0, 4, 0, 4, 0])
            reply = bytes([2, len(number)]) + number + bytes([0x61, len(result)]) + result
            self.wfile.write(bytes([0x30, len(reply)]) + reply)


def refused(login: str, token: str) -> str | None:
    """Why a token does not open a database, or None; ``login`` is ``HOST NAME/USER``."""
    host, _, user = login.partition("/")
    account, region, name = _owners.get(host, ("", "", ""))
    cluster = rds._clusters.get_scoped(account, region, name) if account else None
    if cluster is None or not cluster.get("IAMDatabaseAuthenticationEnabled"):
        return "the cluster has no IAM authentication"
    target = {"hostname": cluster["Endpoint"], "port": cluster["Port"], "db_user": user}
    verified = rds_iam.verify_rds_iam_token(token, **target, region=region, account_id=account)
    if isinstance(verified, rds_iam.RdsIamTokenError):
        return str(verified.code)
    resource = f"arn:aws:rds-db:{region}:{account}:dbuser:{cluster['DbClusterResourceId']}/{user}"
    with request_scope(account, region):
        principal = iam_evaluator.resolve_principal(verified.access_key_id, account)
        if isinstance(principal, iam_evaluator.AuthError):
            return "unknown credentials"
        if principal.policies is None:
            return None
        asked = iam_evaluator.EvalContext(
            principal_arn=principal.arn,
            principal_type=principal.type,
            principal_account=account,
            action="rds-db:connect",
            resource_arn=resource,
            region=region,
            principal_keys=principal.keys,
        )
        answer = iam_evaluator.evaluate(asked, principal.policies, *principal.limits)
    return None if answer.decision == "Allow" else f"{principal.arn} may not rds-db:connect on {resource}"


def _read_message(stream: Any) -> tuple[bytes, int, bytes] | None:
    head = stream.read(2)
    if len(head) < 2:
        return None
    size = head[1]
    if size & 0x80:
        size = int.from_bytes(stream.read(size & 0x7F), "big")
    number, rest = _element(stream.read(size))
    body, _ = _element(rest)
    return number, rest[0], body


def _element(data: bytes) -> tuple[bytes, bytes]:
    """The content of the first BER element, and what follows it."""
    size, start = data[1], 2
    if size & 0x80:
        start = 2 + (size & 0x7F)
        size = int.from_bytes(data[2:start], "big")
    return data[start : start + size], data[start + size :]
