"""The performance harness: whole commands, their peers in the same run, ratios rather than seconds."""
