"""Money: accounts, postings, holds, balances. Knows no HTTP and asks nobody. See README.md.

Owns the PostgreSQL schema `ledger`; its one writer is the SQL function that `journal.post_many` calls.
Error codes: `wallet.insufficient_funds`, `wallet.limit_exceeded`, `wallet.frozen`, `wallet.closed`,
`ledger.condition_failed`, `ledger.key_reused`, `ledger.already_reversed`, `ledger.not_reversible`,
`ledger.hold_resolved`, `ledger.archived`, `ledger.too_many_found`.
"""
