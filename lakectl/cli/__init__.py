"""One small module per group of commands: parse, one call, show. No logic."""
