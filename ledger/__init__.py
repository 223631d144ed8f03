"""Money: accounts, postings, balances. Knows no booking, no gateway and no HTTP. See README.md.

Owns the PostgreSQL schema `ledger`; its one writer is the SQL function that `journal.post` calls.
Error codes: `wallet.insufficient_funds`, `ledger.key_reused`.
"""
