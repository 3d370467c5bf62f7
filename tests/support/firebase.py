"""What Google does for an app: signs id tokens and App Check tokens, and serves the keys to check them with."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

PROJECT, NUMBER = "shop-project", "123456789"
ISSUER = f"https://securetoken.google.com/{PROJECT}"
APP_CHECK_ISSUER = f"https://firebaseappcheck.googleapis.com/{NUMBER}"


def b64(data: bytes) -> str:
    """Base64 as tokens write it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@cache
def _private(name: str) -> rsa.RSAPrivateKey:
    """One key for each name; making one takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Signer:
    """A signer with a key.  Two of the same name have the same key."""

    def __init__(self, name: str = "key-1") -> None:
        self.name = name
        self.private = _private(name)

    def token(self, claims: dict[str, Any], **header: Any) -> str:
        """A signed token."""
        head = {"alg": "RS256", "kid": self.name, "typ": "JWT"} | header
        signed = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(claims).encode())}"
        signature = self.private.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{b64(signature)}"

    def certificate(self) -> str:
        """Its certificate, as Google serves it."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "securetoken")])
        begin = datetime(2020, 1, 1, tzinfo=UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.private.public_key())
            .serial_number(1)
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=36500))
            .sign(self.private, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM).decode()

    def jwk(self) -> dict[str, str]:
        """Its public key, as App Check serves it."""
        numbers = self.private.public_key().public_numbers()
        return {
            "kid": self.name, "kty": "RSA", "alg": "RS256", "use": "sig",
            "n": b64(numbers.n.to_bytes(256, "big")), "e": b64(numbers.e.to_bytes(3, "big")),
        }  # fmt: skip


def user_claims(now: float, **changes: Any) -> dict[str, Any]:
    """What the id token of a signed-in user says."""
    claims = {
        "iss": ISSUER, "aud": PROJECT, "sub": "uid-1", "iat": now - 10, "auth_time": now - 10, "exp": now + 3600,
        "email": "anna@example.org", "email_verified": True,
    }  # fmt: skip
    return {name: value for name, value in (claims | changes).items() if value is not None}


def app_claims(now: float, **changes: Any) -> dict[str, Any]:
    """What the App Check token of an app says."""
    claims = {
        "iss": APP_CHECK_ISSUER, "aud": [f"projects/{NUMBER}", f"projects/{PROJECT}"], "sub": "1:1:web:1",
        "iat": now - 10, "exp": now + 3600,
    }  # fmt: skip
    return claims | changes


class KeyServer:
    """Serves the keys of some signers; counts how often it was asked."""

    def __init__(self) -> None:
        self.signers = [Signer()]
        self.asked = 0
        self.down = False
        self.port = 0

    def settings(self) -> dict[str, str]:
        """The settings of [http] that point here."""
        return {
            "firebase_project": PROJECT,
            "firebase_keys": f"http://127.0.0.1:{self.port}/certificates",
            "app_check_keys": f"http://127.0.0.1:{self.port}/jwks",
        }

    def answer(self, path: str) -> bytes:
        """The keys at a path."""
        if path == "/jwks":
            return json.dumps({"keys": [signer.jwk() for signer in self.signers]}).encode()
        return json.dumps({one.name: one.certificate() for one in self.signers}).encode()


@contextmanager
def a_key_server() -> Iterator[KeyServer]:
    """One on a port of this machine."""
    keys = KeyServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.asked += 1
            if keys.down:
                self.send_error(503)
                return
            body = keys.answer(self.path)
            self.send_response(200)
            self.send_header("Cache-Control", "public, max-age=100, must-revalidate")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    keys.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield keys
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
