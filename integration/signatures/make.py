#!/usr/bin/env python3
"""Makes a small world of signatures, by other code than that which verifies them.

    make.py DIR DIGEST     trusted_root.json, other_root.json, *.pub, good-*.json and bad-*.json about DIGEST

One certificate authority, one certificate log, two transparency logs, one timestamp authority (openssl ts). A file named
…simplesigning.json is the node's envelope of cosign 2's signature, …bundle.json a sigstore bundle. What each bad one is
bad at is its name; runtime/trust/src/signature/tests.rs says what must be answered.
"""

import base64
import datetime
import hashlib
import json
import pathlib
import struct
import subprocess
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

OUT, SUBJECT = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
OUT.mkdir(parents=True, exist_ok=True)
NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
AT = int(NOW.timestamp())
YEARS = datetime.timedelta(days=3650)
IDENTITY = "https://ci.example/team-a/app/release.yml@refs/tags/v1"
ISSUER = "https://issuer.example"
IN_TOTO = "application/vnd.in-toto+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def b64(data):
    return base64.b64encode(data).decode()


def sha(data):
    return hashlib.sha256(data).digest()


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def key():
    return ec.generate_private_key(ec.SECP256R1())


def spki(private):
    return private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign(private, data, curves_own_hash=False):
    """As cosign 2 does, with SHA-256; or as cosign 3, with the hash of the curve."""
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return private.sign(data)
    if isinstance(private, rsa.RSAPrivateKey):
        return private.sign(data, padding.PKCS1v15(), hashes.SHA256())
    wide = curves_own_hash and private.curve.key_size == 384
    return private.sign(data, ec.ECDSA(hashes.SHA384() if wide else hashes.SHA256()))


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def der(certificate):
    return certificate.public_bytes(serialization.Encoding.DER)


def named(name):
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])


def authority(name):
    private = key()
    certificate = (
        x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(name))
        .public_key(private.public_key()).serial_number(1)
        .not_valid_before(NOW - datetime.timedelta(days=1)).not_valid_after(NOW + YEARS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), True)
        .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), False)
        .sign(private, hashes.SHA256()))
    return private, certificate


CA, OTHER_CA = authority("authority"), authority("another authority")
CT, LOG, OTHER_LOG = key(), key(), key()
SIGNER, KEY = key(), key()


def leaf(ca=CA, ct=CT, sans=(IDENTITY,), issuer=ISSUER, sct="good", start=NOW - datetime.timedelta(minutes=1)):
    """A certificate of ten minutes, and the entry of the certificate log in it."""
    ca_key, ca_certificate = ca
    builder = (
        x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(ca_certificate.subject)
        .public_key(SIGNER.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(start).not_valid_after(start + datetime.timedelta(minutes=10))
        .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(san) for san in sans]), True))
    if issuer:
        text = issuer.encode()
        builder = builder.add_extension(
            x509.UnrecognizedExtension(
                ObjectIdentifier("1.3.6.1.4.1.57264.1.8"), bytes([12, len(text)]) + text), False)
    if sct is None:
        return builder.sign(ca_key, hashes.SHA256())
    tbs = builder.sign(ca_key, hashes.SHA256()).tbs_certificate_bytes
    when = struct.pack(">Q", AT * 1000)
    signed = (b"\0\0" + when + b"\0\1" + sha(spki(ca_key)) + struct.pack(">I", len(tbs))[1:] + tbs + b"\0\0")
    signature = sign(ct, signed)
    entry = (b"\0" + sha(spki(CT)) + when + b"\0\0" + b"\4\3" + struct.pack(">H", len(signature)) + signature)
    listed = struct.pack(">H", len(entry)) + entry
    listed = struct.pack(">H", len(listed)) + listed
    octets = (bytes([4, len(listed)]) if len(listed) < 128 else bytes([4, 0x81, len(listed)])) + listed
    return builder.add_extension(
        x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2"), octets), False
    ).sign(ca_key, hashes.SHA256())


def statement(subject=SUBJECT, **changes):
    return canonical({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "", "digest": {"sha256": subject.removeprefix("sha256:")}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {}} | changes)


def pae(payload):
    return b"DSSEv1 %d %s %d %s" % (len(IN_TOTO), IN_TOTO.encode(), len(payload), payload)


def checkpoint(log, name, size, root):
    text = f"{name}\n{size}\n{b64(root)}\n".encode()
    return (text + f"\n\u2014 {name} {b64(sha(spki(log))[:4] + sign(log, text))}\n".encode()).decode()


def entry(body, kind, version, log=LOG, when=AT, promise=True, proof=True, checkpointed_by=None, signed_by=None):
    """An entry of a log of two leaves."""
    body = canonical(body)
    first, second = sha(b"\0first"), sha(b"\0" + body)
    made = {
        "logIndex": "1", "logId": {"keyId": b64(sha(spki(log)))},
        "kindVersion": {"kind": kind, "version": version}, "canonicalizedBody": b64(body)}
    if when is not None:
        made["integratedTime"] = str(when)
    if promise:
        payload = {"body": b64(body), "integratedTime": when, "logIndex": 1, "logID": sha(spki(log)).hex()}
        made["inclusionPromise"] = {"signedEntryTimestamp": b64(sign(signed_by or log, canonical(payload)))}
    if proof:
        root = sha(b"\1" + first + second)
        made["inclusionProof"] = {
            "logIndex": "1", "rootHash": b64(root), "treeSize": "2", "hashes": [b64(first)],
            "checkpoint": {"envelope": checkpoint(checkpointed_by or log, "log.example", 2, root)}}
    return made


def dsse_body(payload, signature, verifier):
    return {"apiVersion": "0.0.1", "kind": "dsse", "spec": {
        "envelopeHash": {"algorithm": "sha256", "value": sha(payload).hex()},
        "payloadHash": {"algorithm": "sha256", "value": sha(payload).hex()},
        "signatures": [{"signature": b64(signature), "verifier": b64(verifier.encode())}]}}


def hashed_v2(data, signature, certificate):
    return {"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": {
        "data": {"algorithm": "SHA2_256", "digest": b64(sha(data))},
        "signature": {"content": b64(signature), "verifier": {
            "keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": {"rawBytes": b64(der(certificate))}}}}}}


def envelope(payload, signature):
    return {"payload": b64(payload), "payloadType": IN_TOTO, "signatures": [{"sig": b64(signature)}]}


def keyless(payload=None, certificate=None, entries=None, timestamps=(), signature=None, **log):
    payload = statement() if payload is None else payload
    certificate = certificate or leaf()
    signature = signature or sign(SIGNER, pae(payload))
    if entries is None:
        entries = [entry(dsse_body(payload, signature, pem(certificate)), "dsse", "0.0.1", **log)]
    material = {"certificate": {"rawBytes": b64(der(certificate))}, "tlogEntries": entries}
    if timestamps:
        material["timestampVerificationData"] = {
            "rfc3161Timestamps": [{"signedTimestamp": b64(stamp(signature))} for stamp in timestamps]}
    return {"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope(payload, signature)}


def rekor_2(timestamps):
    payload, certificate = statement(), leaf()
    signature = sign(SIGNER, pae(payload))
    body = hashed_v2(pae(payload), signature, certificate)
    entries = [entry(body, "hashedrekord", "0.0.2", when=None, promise=False)]
    return keyless(payload, certificate, entries, timestamps, signature)


def public_pem(private):
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def keyed(entries=None, private=KEY):
    payload = statement()
    signature = sign(private, pae(payload), curves_own_hash=True)
    if entries is None:
        entries = [entry(dsse_body(payload, signature, public_pem(private)), "dsse", "0.0.1")]
    return {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": b64(sha(spki(private)))}, "tlogEntries": entries},
        "dsseEnvelope": envelope(payload, signature)}


def simple(subject=SUBJECT, private=KEY, certificate=None, **log):
    payload = canonical({
        "critical": {
            "identity": {"docker-reference": "registry.test/team-a/app"},
            "image": {"docker-manifest-digest": subject}, "type": "cosign container image signature"},
        "optional": None})
    signature = sign(private, payload)
    made = {"payload": b64(payload), "signature": b64(signature)}
    if log or certificate:
        verifier = pem(certificate) if certificate else public_pem(private)
        one = entry({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": sha(payload).hex()}},
            "signature": {"content": b64(signature), "publicKey": {"content": b64(verifier.encode())}}}},
            "hashedrekord", "0.0.1", proof=False, **log)
        made["bundle"] = json.dumps({
            "SignedEntryTimestamp": one["inclusionPromise"]["signedEntryTimestamp"],
            "Payload": {
                "body": one["canonicalizedBody"], "integratedTime": int(one["integratedTime"]),
                "logIndex": 1, "logID": sha(spki(log.get("log", LOG))).hex()}})
    if certificate:
        made |= {"certificate": pem(certificate), "chain": pem(CA[1])}
    return made


class Stamper:
    """A timestamp authority: openssl ts with a certificate of its own."""

    def __init__(self, name):
        private, root = authority(name)
        own = key()
        certificate = (
            x509.CertificateBuilder().subject_name(named(name + "'s clock")).issuer_name(root.subject)
            .public_key(own.public_key()).serial_number(2)
            .not_valid_before(NOW - datetime.timedelta(days=1)).not_valid_after(NOW + YEARS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True)
            .sign(private, hashes.SHA256()))
        self.chain = [certificate, root]
        self.dir = OUT / ".tsa" / name.replace(" ", "-")
        self.dir.mkdir(parents=True, exist_ok=True)
        (self.dir / "key.pem").write_bytes(own.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        (self.dir / "cert.pem").write_text(pem(certificate))
        (self.dir / "chain.pem").write_text(pem(root))
        (self.dir / "serial").write_text("01\n")
        (self.dir / "cnf").write_text(
            f"[tsa]\nserial = {self.dir}/serial\nsigner_cert = {self.dir}/cert.pem\ncerts = {self.dir}/chain.pem\n"
            f"signer_key = {self.dir}/key.pem\nsigner_digest = sha256\ndefault_policy = 1.2.3.4\n"
            "digests = sha256\naccuracy = secs:1\nordering = no\ntsa_name = no\ness_cert_id_chain = no\n"
            "ess_cert_id_alg = sha256\n")

    def __call__(self, data):
        (self.dir / "data").write_bytes(data)
        for words in (
            ["-query", "-data", "data", "-sha256", "-cert", "-out", "query"],
            ["-reply", "-queryfile", "query", "-config", "cnf", "-section", "tsa", "-out", "reply"],
        ):
            subprocess.run(["openssl", "ts", *words], cwd=self.dir, check=True, capture_output=True)
        return (self.dir / "reply").read_bytes()


TSA, OTHER_TSA = Stamper("clock"), Stamper("another clock")


def trusted_root(ca, logs, ct, stampers):
    start = {"start": (NOW - datetime.timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")}

    def log(private):
        return {
            "baseUrl": "https://log.example", "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": b64(spki(private)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": start},
            "logId": {"keyId": b64(sha(spki(private)))}}

    def chain(certificates, uri):
        return {
            "subject": {"organization": "test", "commonName": "test"}, "uri": uri, "validFor": start,
            "certChain": {"certificates": [{"rawBytes": b64(der(one))} for one in certificates]}}
    return {
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [log(one) for one in logs], "ctlogs": [log(one) for one in ct],
        "certificateAuthorities": [chain([ca[1]], "https://ca.example")],
        "timestampAuthorities": [chain(one.chain, "https://tsa.example") for one in stampers]}


def changed(bundle, change):
    bundle = json.loads(json.dumps(bundle))
    change(bundle)
    return bundle


def entries_of(bundle):
    return bundle["verificationMaterial"]["tlogEntries"]


def flip(text):
    data = bytearray(base64.b64decode(text))
    data[-1] ^= 1
    return b64(bytes(data))


def spoil_proof(bundle):
    proof = entries_of(bundle)[0]["inclusionProof"]
    proof["hashes"][0] = flip(proof["hashes"][0])


def spoil_promise(bundle):
    promise = entries_of(bundle)[0]["inclusionPromise"]
    promise["signedEntryTimestamp"] = flip(promise["signedEntryTimestamp"])


def backdate(bundle):
    entries_of(bundle)[0]["integratedTime"] = str(AT - 30)


def edit_payload(bundle):
    bundle["dsseEnvelope"]["payload"] = b64(statement(predicate={"edited": True}))


def nothing_of_entry(bundle):
    for name in ("inclusionProof", "inclusionPromise"):
        del entries_of(bundle)[0][name]


OTHER = "sha256:" + sha(b"another image").hex()
GOOD = keyless()
STRANGER = keyless(entries=None)
CASES = {
    "good-keyless.bundle": GOOD,
    "good-keyless-rekor-2.bundle": rekor_2([TSA]),
    "good-keyless-timestamp-and-log.bundle": keyless(timestamps=[TSA]),
    "good-keyless-timestamp-alone.bundle": keyless(entries=[], timestamps=[TSA]),
    "good-keyed.bundle": keyed([]),
    "good-keyed-logged.bundle": keyed(),
    "good-keyed.simplesigning": simple(),
    "good-keyed-logged.simplesigning": simple(log=LOG),
    "good-keyless.simplesigning": simple(private=SIGNER, certificate=leaf()),
    "good-attestation.bundle": keyless(payload=statement(predicateType="https://spdx.dev/Document")),
    "bad-forged-promise.bundle": changed(GOOD, spoil_promise),
    "bad-backdated.bundle": changed(GOOD, backdate),
    "bad-promise-by-other-log.bundle": keyless(signed_by=OTHER_LOG),
    "bad-inclusion-proof.bundle": changed(GOOD, spoil_proof),
    "bad-checkpoint-by-other-log.bundle": keyless(checkpointed_by=OTHER_LOG),
    "bad-unknown-log.bundle": keyless(log=key()),
    "bad-entry-of-other-signature.bundle": changed(
        GOOD, lambda bundle: bundle["verificationMaterial"].update(tlogEntries=entries_of(STRANGER))),
    "bad-second-entry.bundle": changed(
        GOOD, lambda bundle: entries_of(bundle).append(entries_of(changed(GOOD, spoil_proof))[0])),
    "bad-entry-without-proof.bundle": changed(
        GOOD, lambda bundle: (entries_of(bundle).append(json.loads(json.dumps(entries_of(bundle)[0]))),
                              nothing_of_entry(bundle))),
    "bad-no-time.bundle": keyless(entries=[]),
    "bad-expired-certificate.bundle": keyless(
        certificate=leaf(start=NOW - datetime.timedelta(minutes=20))),
    "bad-certificate-of-other-authority.bundle": keyless(certificate=leaf(ca=OTHER_CA)),
    "bad-certificate-not-in-its-log.bundle": keyless(certificate=leaf(sct=None)),
    "bad-certificate-log-forged.bundle": keyless(certificate=leaf(ct=key())),
    "bad-two-identities.bundle": keyless(certificate=leaf(sans=(IDENTITY, "https://ci.example/team-b"))),
    "bad-no-issuer.bundle": keyless(certificate=leaf(issuer=None)),
    "bad-edited-payload.bundle": changed(GOOD, edit_payload),
    "bad-other-digest.bundle": keyless(payload=statement(OTHER)),
    "bad-statement-type.bundle": changed(keyed([]), lambda bundle: bundle.update(
        dsseEnvelope=envelope(statement(_type="x"), sign(KEY, pae(statement(_type="x")))))),
    "bad-timestamp-of-other-authority.bundle": keyless(timestamps=[OTHER_TSA]),
    "bad-timestamp-of-other-signature.bundle": keyless(timestamps=[lambda _: TSA(b"another signature")]),
    "bad-rekor-2-without-timestamp.bundle": rekor_2([]),
    "bad-other-key.bundle": keyed([], private=key()),
    "bad-keyed-inclusion-proof.bundle": changed(keyed(), spoil_proof),
    "bad-other-key.simplesigning": simple(private=key()),
    "bad-other-digest.simplesigning": simple(subject=OTHER),
    "bad-forged-promise.simplesigning": simple(log=LOG, signed_by=OTHER_LOG),
    "bad-expired-certificate.simplesigning": simple(
        private=SIGNER, certificate=leaf(start=NOW - datetime.timedelta(minutes=20))),
    "bad-certificate-of-other-authority.simplesigning": simple(private=SIGNER, certificate=leaf(ca=OTHER_CA)),
}
KINDS = {
    "p384": ec.generate_private_key(ec.SECP384R1()), "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "rsa": rsa.generate_private_key(65537, 3072)}
for name, private in KINDS.items():
    CASES[f"good-{name}.bundle"] = keyed([], private)
    CASES[f"good-{name}.simplesigning"] = simple(private=private)
    (OUT / f"{name}.pub").write_text(public_pem(private))
for name, case in CASES.items():
    (OUT / f"{name}.json").write_text(json.dumps(case))
(OUT / "trusted_root.json").write_text(json.dumps(trusted_root(CA, [LOG, OTHER_LOG], [CT], [TSA])))
(OUT / "other_root.json").write_text(json.dumps(trusted_root(OTHER_CA, [OTHER_LOG], [CT], [OTHER_TSA])))
(OUT / "key.pub").write_text(public_pem(KEY))
subprocess.run(["rm", "-r", str(OUT / ".tsa")], check=True)
