"""Who runs the shards of a load: this process, or a cluster."""
