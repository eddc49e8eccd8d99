"""The control plane: what the operator types."""
