"""What a configuration needs that is not installed, found without importing it: what it brings takes long to load."""

from collections.abc import Iterator
from importlib.util import find_spec

from proxy.settings.model import KekKind, Settings


def missing_packages(settings: Settings) -> Iterator[str]:
    """What to install, for each place of the configuration that cannot work without it."""
    if find_spec("boto3") is not None:
        return
    if settings.ledger.sink.startswith("s3:"):
        yield f"ledger.sink is in S3, which needs boto3: {_install('s3')}. Without it no row is exported."
    if any(kek.kind is KekKind.AWS_KMS for kek in settings.keyring.kek):
        yield f"keyring.kek is in AWS KMS, which needs boto3: {_install('kms')}. Without it no provider key opens."


def _install(extra: str) -> str:
    return f"pip install 'tollway[{extra}]', or -e '.[{extra}]' in a checkout"
