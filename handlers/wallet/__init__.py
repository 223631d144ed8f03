"""The wallet as its owner sees it: read models on the ledger. Owns no table, emits no event."""
