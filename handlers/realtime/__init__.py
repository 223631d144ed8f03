"""Streams as operations of the contract, the kinds of channels, and who may read them.

Owns the table `channel_members`. What flows is events.yaml's and streams/'s business.
"""
