"""SQL where SQL is read: the ledger's schema, its migrations and the named queries."""
