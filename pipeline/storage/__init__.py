"""The edges: the object store, the catalogue in PostgreSQL, the model registry."""
