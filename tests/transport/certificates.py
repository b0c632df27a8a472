"""A certificate authority for one test run, and a certificate for the brokers of this machine."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_VALID_DAYS = "2"


@dataclass(frozen=True)
class Certificates:
    """PEM files: what signs, and the brokers' key and certificate in one file, as Kafka wants it."""

    authority: Path
    broker: Path


def make_certificates(folder: Path) -> Certificates:
    """Make an authority and a certificate for 127.0.0.1 and localhost with the openssl program."""
    folder.mkdir(parents=True, exist_ok=True)
    names = folder / "names"
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    new_key = ["-newkey", "rsa:2048", "-nodes"]
    _openssl(
        folder,
        "req",
        "-x509",
        *new_key,
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-days",
        _VALID_DAYS,
        "-subj",
        "/CN=DCCF test authority",
    )
    _openssl(folder, "req", *new_key, "-keyout", "broker.key", "-out", "broker.csr", "-subj", "/CN=broker")
    _openssl(
        folder,
        "x509",
        "-req",
        "-in",
        "broker.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        "broker.crt",
        "-days",
        _VALID_DAYS,
        "-extfile",
        names.name,
    )
    both = folder / "broker.pem"
    both.write_text((folder / "broker.key").read_text() + (folder / "broker.crt").read_text())
    return Certificates(folder / "ca.pem", both)


def _openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr}")
