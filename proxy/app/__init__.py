"""The composition root: the only place where objects are wired.

`create_app(settings)` gives an ASGI application for any server, or to be mounted in a host's
own Starlette or FastAPI application; `serve` runs it behind our own HTTP front.
"""

from proxy.app.application import App
from proxy.app.keyring import command_keyring
from proxy.app.prices import price_warnings
from proxy.app.process import create_app, serve
from proxy.app.stores import Stores, open_stores, peppers_of

__all__ = ["App", "Stores", "command_keyring", "create_app", "open_stores", "peppers_of", "price_warnings", "serve"]
