"""The HTTP contract (docs/protocol.md): the same app behind Azure Functions and behind a local server."""
