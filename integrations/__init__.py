"""Other people's machines: payment gateways, mail servers.

Adapters transform and talk; they decide nothing about our business. `ports` is what the rest of the
application sees, one folder per vendor holds the wire format, and each vendor folder brings a local
sandbox that speaks the same wire format.
"""
