"""Our own HTTP/1.1 transport behind httpx's interface."""
