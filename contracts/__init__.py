"""What Matchday promises: the OpenAPI and AsyncAPI documents and the vocabulary everybody shares.

Imports nothing of ours. `runtime/` turns the documents into a running API; the modules beside it
(`errors`, `money`, `ids`, `events`) are the words that every other package may use.
"""
