"""The wallet as its owner sees it: read models on the ledger, and transfers between users.

Owns no table: the ledger keeps what a transfer is. Emits `wallet.debited` and `wallet.credited`. Error codes:
`transfer.unknown`, `wallet.closed_loop`, `wallet.receiver_unknown`, `wallet.transfer_to_self`.
"""
