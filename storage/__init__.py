"""The bottom: the only importer of databases, asyncpg and redis. Knows no business word."""
