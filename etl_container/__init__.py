"""The data plane: reads, checks, transforms and loads one object; runs unchanged on a laptop, in a container, on a cluster."""
