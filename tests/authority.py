"""A throw-away certificate authority, for tests of TLS."""

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_SIGNS_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True)
class Authority:
    """A throw-away certificate authority, and what it certified."""

    folder: Path
    ca_file: Path

    def server_context(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem")
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context


def certify(subject, names, signer, *, is_authority):
    now = datetime.datetime.now(datetime.UTC)
    secret = ec.generate_private_key(ec.SECP256R1())
    issuer, signing_secret = signer or (subject, secret)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    # What a strict reader asks for, as Python does from 3.13 on (RFC 5280, sections 4.2.1.1 to 4.2.1.3).
    identifier = x509.SubjectKeyIdentifier.from_public_key(secret.public_key())
    issuers = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_secret.public_key())
    builder = builder.add_extension(identifier, critical=False).add_extension(issuers, critical=False)
    if is_authority:
        builder = builder.add_extension(_SIGNS_CERTIFICATES, critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(signing_secret, hashes.SHA256())
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret_pem = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret, pem, secret_pem


def found(folder: Path) -> Authority:
    secret, pem, _ = certify("throw-away authority", [], None, is_authority=True)
    (folder / "ca.pem").write_bytes(pem)
    signer = ("throw-away authority", secret)
    for name, names in {
        "good": [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))],
        "other": [x509.DNSName("other.example")],
    }.items():
        _, pem, secret_pem = certify(name, names, signer, is_authority=False)
        (folder / f"{name}.pem").write_bytes(pem + secret_pem)
    return Authority(folder, folder / "ca.pem")
