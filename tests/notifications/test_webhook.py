from __future__ import annotations

import base64
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from clew.config import NotificationSettings
from clew.notifications import deliver_due, verify_signature
from clew.notifications.failures import DeliveryFailed
from clew.notifications.webhook import post
from clew.storage import Store
from tests.notifications.receivers import NOW, SECRET, Receiver, put, receiver, rows, webhook

HERE = ["127.0.0.1"]


def failure(url: str, **options: object) -> str:
    with pytest.raises(DeliveryFailed) as caught:
        post(url, b"{}", "n1", SECRET, **{"allow_private": True, **options})  # type: ignore[arg-type]
    return str(caught.value)


def test_a_notice_arrives_as_signed_json_with_its_id(store: Store, here: Receiver) -> None:
    put(store, webhook(here), "one")
    assert deliver_due(store, webhook(here), NOW) == 1
    (got,) = here.received
    told = verify_signature(got.body, got.headers["X-Clew-Signature"], SECRET, now=NOW)
    assert (told["sentence"], told["attempt"]) == ("this is one", 1)
    assert told["id"] == got.headers["X-Clew-Delivery"] == rows(store)[0]["id"]
    assert 0 <= (datetime.fromisoformat(told["sent_at"]) - NOW).total_seconds() < 5
    assert got.headers["Content-Type"] == "application/json"
    assert (got.path, got.headers["Host"]) == ("/hook", f"127.0.0.1:{here.port}")


def test_without_a_secret_nothing_is_signed(store: Store, here: Receiver) -> None:
    settings = webhook(here, secret=None)
    put(store, settings, "one")
    assert deliver_due(store, settings, NOW) == 1
    assert "X-Clew-Signature" not in here.received[0].headers


def test_who_is_in_the_url_logs_in(here: Receiver) -> None:
    post(here.url.replace("//", "//me:hunter2@"), b"{}", "n1", None, allow_private=True)
    assert here.received[0].headers["Authorization"] == f"Basic {base64.b64encode(b'me:hunter2').decode()}"
    assert here.received[0].headers["Host"] == f"127.0.0.1:{here.port}"


def test_a_private_address_gets_nothing(store: Store, here: Receiver) -> None:
    settings = webhook(here, allow_private=False)
    put(store, settings, "one")
    assert deliver_due(store, settings, NOW) == 0
    assert "127.0.0.1, which is no public address" in rows(store)[0]["last_error"]
    assert here.received == []


def test_the_connection_goes_to_the_address_that_was_judged(here: Receiver) -> None:
    asked = []

    def lookup(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return HERE

    # No resolver knows this name: a second look-up would find nothing.
    url = f"http://hooks.invalid:{here.port}/hook"
    post(url, b"{}", "n1", SECRET, allow_private=True, lookup=lookup)
    assert asked == [("hooks.invalid", here.port)]
    assert here.received[0].headers["Host"] == f"hooks.invalid:{here.port}"


def test_the_next_address_is_tried_when_one_cannot_be_reached(here: Receiver) -> None:
    url = f"http://hooks.invalid:{here.port}/hook"
    # Nobody listens at this port of the second loopback address.
    post(url, b"{}", "n1", SECRET, allow_private=True, lookup=lambda *_: ["127.0.0.2", *HERE])
    assert len(here.received) == 1


def test_a_redirect_is_not_followed(here: Receiver) -> None:
    with receiver() as elsewhere:
        here.status, here.location = 302, elsewhere.url
        assert failure(here.url) == (
            f"http://127.0.0.1:{here.port} answered 302 Found, a redirect, which is not followed"
        )
        assert (len(here.received), elsewhere.received) == (1, [])


@pytest.mark.parametrize(
    ("status", "words"), [(500, "500 Internal Server Error"), (410, "410 Gone"), (599, "599")]
)
def test_an_answer_that_is_no_yes_is_a_failure(here: Receiver, status: int, words: str) -> None:
    here.status = status
    assert failure(here.url) == f"http://127.0.0.1:{here.port} answered {words}"


def test_a_proxy_is_not_asked(here: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    post(here.url, b"{}", "n1", SECRET, allow_private=True)
    assert len(here.received) == 1


# ---------------------------------------------------------------- receivers that do not answer


@contextmanager
def listening(answer: bytes, pause_seconds: float) -> Iterator[int]:
    """A port at which `answer` is sent byte by byte, with a pause after each, again and again."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    for byte in answer * 1000:
                        connection.send(bytes([byte]))
                        time.sleep(pause_seconds)
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]


@pytest.mark.parametrize("answer", [b"H", b"HTTP/1.1 200 OK\r\nX-A: b\r\n"])
def test_a_receiver_that_dribbles_is_not_waited_for(answer: bytes) -> None:
    with listening(answer, 0.05) as port:
        begun = time.monotonic()
        said = failure(f"http://127.0.0.1:{port}/", timeout_seconds=0.5)
        assert 0.4 < time.monotonic() - begun < 3
    assert said == f"http://127.0.0.1:{port} did not answer within 0.5 s"


def test_a_body_without_an_end_is_not_read(here: Receiver) -> None:
    with listening(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, 0.0) as port:
        post(f"http://127.0.0.1:{port}/", b"{}", "n1", SECRET, allow_private=True)


def test_what_is_no_http_is_a_failure() -> None:
    with listening(b"SSH-2.0-hello\r\n\r\n", 0.0) as port:
        assert failure(f"http://127.0.0.1:{port}/").startswith(f"http://127.0.0.1:{port} broke off")


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_message_holds_nothing_of_the_url_but_scheme_host_and_port() -> None:
    port = closed_port()
    said = failure(f"http://me:hunter2@127.0.0.1:{port}/services/T0/B7?key=pssst")
    assert said == f"http://127.0.0.1:{port} cannot be reached: Connection refused"


# ---------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for hooks.example, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not installed")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    named = f"-keyout {path} -out {path.with_name('c')} -subj /CN=hooks.example"
    asked = f"req -x509 -newkey rsa:2048 -nodes -days 2 {named} -addext subjectAltName=DNS:hooks.example"
    subprocess.run(["openssl", *asked.split()], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_name("c").read_bytes())
    return path


@pytest.fixture
def encrypted(certificate: Path) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with receiver(context) as here:
        yield here


def test_a_certificate_is_that_of_the_name_and_not_of_the_address(
    encrypted: Receiver, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_name("c")))
    url = f"https://hooks.example:{encrypted.port}/hook"
    post(url, b"{}", "n1", SECRET, allow_private=True, lookup=lambda *_: HERE)
    assert len(encrypted.received) == 1
    other = failure(url.replace("hooks", "other"), lookup=lambda *_: HERE)
    assert "has a certificate that is not trusted: Hostname mismatch" in other
    assert len(encrypted.received) == 1


def test_a_certificate_that_nobody_vouches_for_is_refused(encrypted: Receiver) -> None:
    said = failure(f"https://hooks.example:{encrypted.port}/hook", lookup=lambda *_: HERE)
    assert "has a certificate that is not trusted: self" in said
    assert encrypted.received == []


def test_plain_http_where_tls_is_meant_is_said(here: Receiver) -> None:
    assert "speaks no TLS" in failure(here.url.replace("http:", "https:"))


def test_settings_hide_the_url_and_the_secret() -> None:
    shown = repr(NotificationSettings(webhook="https://me:hunter2@hooks.example/T0", secret="pssst"))
    assert "hunter2" not in shown
    assert "pssst" not in shown
