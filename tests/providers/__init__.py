"""Adapters against the vendor sandboxes, over real HTTP on loopback ports."""
