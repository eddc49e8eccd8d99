"""Aurora clusters, seen from outside: state, version, protection, snapshots. Nothing here wakes a paused database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lakectl.aws.refusals import RefusedError
from lakectl.aws.session import Aws


@dataclass(frozen=True, slots=True)
class Cluster:
    """An Aurora cluster."""

    name: str
    arn: str
    status: str
    version: str
    protected: bool
    minimum: float | None = None
    """ACU; 0: it may pause."""
    maximum: float | None = None


class Databases:
    """The clusters of one account and region."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def find(self, name: str) -> Cluster | None:
        """A cluster by its identifier; None when there is none."""
        try:
            answer = self._aws.call("rds", "describe_db_clusters", DBClusterIdentifier=name)
        except RefusedError as refusal:
            if refusal.code in ("DBClusterNotFoundFault", "DBClusterNotFound"):
                return None
            raise
        if not answer.get("DBClusters"):
            return None
        facts = answer["DBClusters"][0]
        scaling = facts.get("ServerlessV2ScalingConfiguration") or {}
        return Cluster(
            facts["DBClusterIdentifier"],
            facts["DBClusterArn"],
            facts.get("Status", "unknown"),
            facts.get("EngineVersion", ""),
            bool(facts.get("DeletionProtection")),
            scaling.get("MinCapacity"),
            scaling.get("MaxCapacity"),
        )

    def unprotect(self, name: str) -> None:
        """Deletion protection off."""
        self._aws.call(
            "rds", "modify_db_cluster", DBClusterIdentifier=name, DeletionProtection=False, ApplyImmediately=True
        )

    def snapshots(self, name: str) -> list[str]:
        """The manual snapshots of a cluster, also of one that is gone."""
        found = self._aws.pages(
            "rds",
            "describe_db_cluster_snapshots",
            "DBClusterSnapshots",
            SnapshotType="manual",
            DBClusterIdentifier=name,
        )
        try:
            return [item["DBClusterSnapshotIdentifier"] for item in found]
        except RefusedError as refusal:
            if refusal.code in ("DBClusterNotFoundFault", "DBClusterNotFound", "DBClusterSnapshotNotFoundFault"):
                return []
            raise

    def delete_snapshot(self, snapshot: str) -> None:
        """Delete a snapshot; no error when it is gone."""
        try:
            self._aws.call("rds", "delete_db_cluster_snapshot", DBClusterSnapshotIdentifier=snapshot)
        except RefusedError as refusal:
            if not refusal.code.startswith("DBClusterSnapshotNotFound"):
                raise


def newer(one: str, other: str) -> str:
    """The greater of two engine versions, number by number (17.10 is newer than 17.9)."""

    def numbers(version: str) -> tuple[int, ...]:
        return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))

    return max(one, other, key=numbers)


def secret(aws: Aws, arn: str) -> Mapping[str, str]:
    """A secret of user name and password; never logged, never shown."""
    import json

    value = json.loads(aws.call("secretsmanager", "get_secret_value", SecretId=arn)["SecretString"])
    return {str(key): str(item) for key, item in value.items()}
