"""Money in: deposits through a gateway's hosted checkout, and the webhooks that tell of them.

Owns the table `deposits`; works on `inbox` through `integrations.inbox`. Emits `deposit.started`, `deposit.failed`,
`deposit.paid`, `wallet.credited`. Error codes: `deposit.unknown`, `checkout.unknown`, `checkout.not_open`,
`payments.gateway_unavailable`, `payments.return_malformed`, `payments.return_unsigned`, `webhook.unsigned`,
`webhook.malformed`.
"""
