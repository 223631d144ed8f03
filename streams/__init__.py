"""Facts in motion: an event commits with its change (outbox), gets its place in the log (relay), and reaches every
reader of the log: connections (hub, WebSocket, SSE) and consumers. Owns the tables of migrations/0002_streams.sql.
"""
