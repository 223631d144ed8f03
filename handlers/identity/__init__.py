"""Who somebody is.

Owns the tables users, passwords, sign_ups, sessions and emails; the event `user.signed_up`; the error codes
`identity.*`, `auth.expired` and `auth.session_ended`. Its contract is contracts/identity.yaml. Others learn about
users from the event and from `contracts.principal.Principal`, never from these tables.
"""
