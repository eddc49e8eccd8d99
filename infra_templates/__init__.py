"""CloudFormation as files; data, not code."""
