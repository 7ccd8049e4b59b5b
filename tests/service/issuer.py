"""A small OpenID provider on the loopback address: discovery, keys, tokens. It can rotate its keys, and be away."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

AUDIENCE = "dayrun-test"
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class Provider:
    def __init__(self) -> None:
        self.keys: dict[str, tuple[str, Private]] = {}
        self.add("first", "ES256")
        self.asked: list[str] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                found = provider.documents().get(self.path)
                body = json.dumps(found).encode()
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._handler = Handler
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/realm"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Nobody answers at the address any more."""
        self._server.shutdown()
        self._server.server_close()

    def add(self, kid: str, algorithm: str) -> None:
        made: dict[str, Any] = {
            "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
        }
        self.keys[kid] = (algorithm, made[algorithm]())

    def documents(self) -> dict[str, Any]:
        published: list[dict[str, Any]] = [{"kty": "unheard-of", "kid": "skip-me"}]
        for kid, (algorithm, private) in self.keys.items():
            public = jwt.get_algorithm_by_name(algorithm).to_jwk(private.public_key(), as_dict=True)
            published.append({**public, "kid": kid, "alg": algorithm, "use": "sig"})
        about = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        return {"/realm/.well-known/openid-configuration": about, "/realm/keys": {"keys": published}}

    def token(self, subject: str = "ada", kid: str = "first", *, without: str = "", private: Private | None = None, **claims: Any) -> str:
        """A token for `subject`; `claims` replace or add to the good ones, `without` leaves one out."""
        at = int(time.time())
        good = {"iss": self.url, "aud": AUDIENCE, "sub": subject, "iat": at, "exp": at + 600}
        said = {name: value for name, value in {**good, **claims}.items() if name != without}
        algorithm, own = self.keys[kid]
        return jwt.encode(said, private or own, algorithm, headers={"kid": kid})

    def subject(self, name: str) -> str:
        return f"oidc:{self.url}|{name}"

    @property
    def settings(self) -> dict[str, Any]:
        return {"oidc_issuer": self.url, "oidc_audience": AUDIENCE}
