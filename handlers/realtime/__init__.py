"""Streams as operations of the contract. Owns no table; what flows is events.yaml's and streams/'s business."""
