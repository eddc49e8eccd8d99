"""The data plane: reads, checks, transforms and loads one object; the same on a laptop, in a container, a cluster."""
