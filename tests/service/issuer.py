"""A small OpenID provider on the loopback address: discovery, keys, tokens, sign-in by code and PKCE. Its keys rotate; it can be away."""

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

AUDIENCE = "dayrun-test"
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class Provider:
    def __init__(self) -> None:
        self.keys: dict[str, tuple[str, Private]] = {}
        self.add("first", "ES256")
        self.asked: list[str] = []
        self.visitor: tuple[str, dict[str, Any]] | None = None
        self.spoiled = False
        self.codes: dict[str, dict[str, str]] = {}
        self.exchanged: list[str] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                if self.path.startswith("/realm/authorize?"):
                    self.send_response(302)
                    self.send_header("Location", provider.back(self.path))
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                found = provider.documents().get(self.path)
                self.answer(404 if found is None else 200, found)

            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                token = provider.exchange({name: values[0] for name, values in parse_qs(form).items()})
                self.answer(200 if token else 400, {"access_token": token} if token else {"error": "invalid_grant"})

            def answer(self, status: int, said: Any) -> None:
                body = json.dumps(said).encode()
                self.send_response(status)
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
        ends = {"authorization_endpoint": f"{self.url}/authorize", "token_endpoint": f"{self.url}/token"}
        about = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **ends}
        return {"/realm/.well-known/openid-configuration": about, "/realm/keys": {"keys": published}}

    def signs_in(self, subject: str, *, spoil_verifier: bool = False, **claims: Any) -> None:
        """Who sits before the browser that comes next; with `spoil_verifier` somebody else asks for the token."""
        self.visitor, self.spoiled = (subject, claims), spoil_verifier

    def back(self, path: str) -> str:
        """Where the browser is sent with a code (RFC 6749, 4.1.2)."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == ("code", AUDIENCE, "S256")
        self.codes[code := secrets.token_urlsafe()] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def exchange(self, form: dict[str, str]) -> str | None:
        """The token for a code, once, to who knows the verifier (RFC 7636, 4.6)."""
        began = self.codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        right = began is not None and (challenge, form["redirect_uri"]) == (began["code_challenge"], began["redirect_uri"])
        if not right or self.spoiled or self.visitor is None:
            return None
        subject, claims = self.visitor
        self.exchanged.append(subject)
        return self.token(subject, **claims)

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
