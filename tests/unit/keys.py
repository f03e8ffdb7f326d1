"""Private keys for tests, made when they are wanted: none lies in the repository."""

from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


@cache
def private_key_pem() -> str:
    """An EC private key (PKCS #8, PEM), the same throughout a run and another in the next."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
