"""Plans as data: what deploy and destroy will do, before they do it."""
