"""What carries a lake's tags: for the look at what a destroyed lake has left behind."""

from __future__ import annotations

from collections.abc import Mapping

from lakectl.aws.session import Aws


def tagged(aws: Aws, tags: Mapping[str, str]) -> list[str]:
    """The ARNs of everything that carries all the tags. Deleted things may be listed for some minutes more.

    Source: https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/overview.html
    """
    found = aws.pages(
        "resourcegroupstaggingapi",
        "get_resources",
        "ResourceTagMappingList",
        TagFilters=[{"Key": key, "Values": [value]} for key, value in tags.items()],
    )
    return sorted(item["ResourceARN"] for item in found)


def log_groups(aws: Aws, prefix: str) -> list[str]:
    """Log groups whose names begin so."""
    found = aws.pages("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=prefix)
    return sorted(item["logGroupName"] for item in found)


def delete_log_group(aws: Aws, name: str) -> None:
    """Delete a log group; no error when it is gone."""
    from lakectl.aws.refusals import RefusedError

    try:
        aws.call("logs", "delete_log_group", logGroupName=name)
    except RefusedError as refusal:
        if refusal.code != "ResourceNotFoundException":
            raise
