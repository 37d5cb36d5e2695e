"""The front: ASGI, HTTP and the two ports."""
