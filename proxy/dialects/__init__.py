"""What the providers' APIs look like on the wire. Pure."""
