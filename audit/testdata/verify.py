#!/usr/bin/env python3
"""An independent verifier of sega's audit log, written from docs/audit-format.md alone.

  verify.py DIR                a mirror of a log: key, checkpoint/SIZE, tile/..., log.ndjson, proofs.json, ...
  verify.py bundle KEY FILE    one bundle, under the public key in the file KEY

It needs Python 3.8 and nothing else, and asks no network. Exit 0: all of it verifies. Exit 1: it
does not, and stderr says what.
"""
import base64
import calendar
import hashlib
import json
import os
import re
import struct
import sys
import time


class Wrong(Exception):
    """Something does not verify."""


def want(ok, *what):
    if not ok:
        raise Wrong(" ".join(str(w) for w in what))


def b64(text):
    raw = base64.b64decode(text, validate=True)
    want(base64.b64encode(raw).decode() == text, "base64 with spare bits:", text[:40])
    return raw


# Ed25519 (RFC 8032 section 5.1), verification only, in affine-free extended coordinates.
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def add(a, b):
    x1, y1, z1, t1 = a
    x2, y2, z2, t2 = b
    m, n = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = n - m, d - c, d + c, n + m
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar, point):
    out = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            out = add(out, point)
        point, scalar = add(point, point), scalar >> 1
    return out


def point(raw):
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    want(y < P, "point out of range")
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    want((x * x - square) % P == 0 and not (x == 0 and sign), "not a point of the curve")
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def ed25519(public, message, signature):
    want(len(public) == 32 and len(signature) == 64, "key or signature has a wrong length")
    a, r, s = point(public), point(signature[:32]), int.from_bytes(signature[32:], "little")
    want(s < ORDER, "signature out of range")
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    left, right = multiply(s, BASE), add(r, multiply(k, a))
    want((left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0, "signature is wrong")


# Signed notes and checkpoints.
def read_key(text):
    name, short, encoded = text.strip().split("+", 2)
    raw = b64(encoded)
    want(len(raw) == 33 and raw[0] == 1, "not an Ed25519 key")
    want(hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4].hex() == short, "the key's hash is not that of the key")
    return name, bytes.fromhex(short), raw[1:]


def checkpoint(note, key, alone=False):
    """Returns size and root of a checkpoint that the key has signed."""
    name, short, public = key
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    want(signatures.endswith("\n"), "the note does not end in a newline")
    lines, good = signatures[:-1].split("\n"), 0
    for line in lines:
        parts = line.split(" ")
        want(len(parts) == 3 and parts[0] == "\u2014", "a signature line is malformed")
        raw = b64(parts[2])
        if parts[1] == name and raw[:4] == short:
            ed25519(public, text.encode(), raw[4:])
            good += 1
    want(good == 1 and (not alone or len(lines) == 1), "not signed by the log, once")
    origin, size, root = text[:-1].split("\n")
    want(origin == name, "the origin is not the key's name")
    want(re.fullmatch("0|[1-9][0-9]*", size), "the size is malformed")
    return int(size), b64(root)


# The tree (RFC 6962 section 2.1).
def leaf(body):
    return hashlib.sha256(b"\0" + body).digest()


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """The right edge of a growing tree."""

    def __init__(self):
        self.size, self.edge = 0, []  # (leaves, hash), the largest first

    def grow(self, h):
        self.size += 1
        self.edge.append((1, h))
        while len(self.edge) > 1 and self.edge[-1][0] == self.edge[-2][0]:
            (n, right), (_, left) = self.edge.pop(), self.edge.pop()
            self.edge.append((2 * n, node(left, right)))

    def root(self):
        if not self.edge:
            return hashlib.sha256(b"").digest()
        h = self.edge[-1][1]
        for _, left in reversed(self.edge[:-1]):
            h = node(left, h)
        return h


def inclusion(proof, index, size, root, h):
    """RFC 9162 section 2.1.3.2."""
    want(0 <= index < size, "the index is not in the tree")
    fn, sn = index, size - 1
    for p in proof:
        want(sn, "the inclusion proof is too long")
        if fn & 1 or fn == sn:
            h = node(p, h)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            h = node(h, p)
        fn, sn = fn >> 1, sn >> 1
    want(sn == 0 and h == root, "the inclusion proof does not lead to the signed root")


def consistency(proof, old, old_root, size, root):
    """RFC 9162 section 2.1.4.2; an empty proof from the empty tree and between equal ones."""
    if old == 0:
        return want(not proof and old_root == hashlib.sha256(b"").digest(), "the proof from nothing is not empty")
    if old == size:
        return want(not proof and old_root == root, "two roots of one size")
    if old & (old - 1) == 0:
        proof = [old_root] + proof
    want(0 < old < size and proof, "the consistency proof is empty")
    fn, sn = old - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = proof[0]
    for p in proof[1:]:
        want(sn, "the consistency proof is too long")
        if fn & 1 or fn == sn:
            fr, sr = node(p, fr), node(p, sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node(sr, p)
        fn, sn = fn >> 1, sn >> 1
    want(sn == 0 and fr == old_root and sr == root, "the consistency proof does not lead to both roots")


# Events.
FIELDS = ["v", "id", "time", "kind", "outcome", "actor", "login_id", "session_id", "request_id", "action", "resource", "reason", "ticket",
          "policy_digest", "policy_ids", "source", "node", "details_digest"]


def canonical(value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for c in "<>&\u2028\u2029":
        text = text.replace(c, "\\u%04x" % ord(c))
    return text.encode()


def nanoseconds(text):
    m = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{0,8}[1-9]))?Z", text)
    want(m and "1970" <= text[:4] <= "2261", "the time is not canonical:", text)
    return calendar.timegm(time.strptime(m[1], "%Y-%m-%dT%H:%M:%S")) * 10**9 + int((m[2] or "").ljust(9, "0"))


def event(body):
    want(len(body) <= 65535, "an envelope is too long")
    e = json.loads(body.decode("utf-8"))
    want(isinstance(e, dict) and list(e) == FIELDS and list(e["actor"]) == ["kind", "iss", "sub", "email"], "the fields are not those of an event")
    want(canonical(e) == body, "an envelope is not in canonical form")
    want(e["v"] == 1 and isinstance(e["policy_ids"], list), "not version 1")
    want(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", e["id"]), "the ID is not a UUIDv7")
    want(re.fullmatch(r"[a-z]{1,32}\.[a-z]{1,32}", e["kind"]), "the kind is malformed")
    want(e["outcome"] in ("intent", "success", "failure", "denied", "revoked", "unknown"), "the outcome is not known")
    want(e["actor"]["kind"] in ("user", "machine", "system", "anonymous"), "the kind of actor is not known")
    nanoseconds(e["time"])
    return e


def details(e, salt, text):
    if not e["details_digest"]:
        return want(not salt and not text, "details of an event that has none")
    want(len(salt) == 32 and text, "details or their salt are missing")
    want(hashlib.sha256(salt + text).hexdigest() == e["details_digest"], "details or their salt were changed")


def columns(index, e):
    a = e["actor"]
    return {"idx": str(index), "id": e["id"], "time": str(nanoseconds(e["time"])), "kind": e["kind"], "outcome": e["outcome"], "actor_kind": a["kind"],
            "iss": a["iss"], "sub": a["sub"], "email": a["email"], "login_id": e["login_id"], "session_id": e["session_id"], "action": e["action"],
            "resource": e["resource"], "source": e["source"], "node": e["node"]}


def rollup_keys(e):
    a, target = e["actor"], e["resource"] if e["resource"].startswith(("role/", "host/")) else ""
    common = (e["time"][:10], e["kind"], e["outcome"])
    yield ("user",) + common + (a["email"], a["sub"], "")
    yield ("target",) + common + ("", "", target)
    yield ("full",) + common + (a["email"], a["sub"], target)


def stream(path):
    with open(path, encoding="utf-8") as f:
        lines = [json.loads(line) for line in f.read().splitlines()]
    want(lines and lines.pop() == {"end": True}, path, "was cut")
    return lines


# A bundle.
def bundle(data, key_text):
    b = json.loads(data.decode("utf-8"))
    want(b["format"] == "sega-bundle/1" and b["key"] == key_text.strip(), "not a bundle of this log")
    key = read_key(key_text)
    want(b["origin"] == key[0], "the origin is not the key's name")
    allowed = ["format", "origin", "key", "idx", "event", "salt", "details", "inclusion", "checkpoint"]
    want([name for name in allowed if name in b] == list(b), "unknown fields")
    want((json.dumps(b, ensure_ascii=False, indent=2) + "\n").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode() == data, "not in the form that a bundle is written in")
    size, root = checkpoint(b["checkpoint"], key, alone=True)
    body = b64(b["event"])
    e = event(body)
    if "salt" in b or "details" in b:
        details(e, b64(b.get("salt", "")), b64(b.get("details", "")))
    inclusion([b64(h) for h in b["inclusion"]], b["idx"], size, root, leaf(body))
    return e


# A mirror of a log.
def tile_path(level, n, width):
    path = "%03d" % (n % 1000)
    while n >= 1000:
        n //= 1000
        path = "x%03d/%s" % (n % 1000, path)
    return "tile/%s/%s%s" % (level, path, "" if width == 256 else ".p/%d" % width)


def tiles(read, size):
    """The leaf hashes of the tree of a size, proven by nothing yet: they must give the root. Upper levels are checked against the lower."""
    below, level = [], 0
    leaves = None
    while size >> (8 * level):
        count, have = size >> (8 * level), []
        for n in range((count + 255) // 256):
            width = min(256, count - 256 * n)
            data = read(tile_path(level, n, width))
            want(len(data) == 32 * width, "a tile of level", level, "has a wrong length")
            have += [data[i:i + 32] for i in range(0, len(data), 32)]
        if level == 0:
            leaves = have
        for i, h in enumerate(have if level else []):
            t = Tree()
            for x in below[256 * i:256 * (i + 1)]:
                t.grow(x)
            want(t.root() == h, "hash", i, "of level", level, "is not that of the tile below it")
        below, level = have, level + 1
    return leaves or []


def entries(read, size):
    out = []
    for n in range((size + 255) // 256):
        data = read(tile_path("entries", n, min(256, size - 256 * n)))
        while data:
            want(len(data) >= 2 and len(data) - 2 >= struct.unpack(">H", data[:2])[0], "a bundle of entries is cut")
            end = 2 + struct.unpack(">H", data[:2])[0]
            out.append(data[2:end])
            data = data[end:]
    want(len(out) == size, "there are", len(out), "entries, want", size)
    return out


def log(rows, signed):
    """Verifies rows against checkpoints {size: root}; returns their events."""
    tree, events = Tree(), []
    for row in rows:
        want(row["idx"] == tree.size, "event", row["idx"], "is not in its place")
        body = b64(row["body"])
        e = event(body)
        want(row["columns"] == columns(row["idx"], e), "columns of event", row["idx"])
        details(e, b64(row.get("salt", "")), b64(row.get("details", "")))
        want(b64(row["leaf"]) == leaf(body), "the stored hash of event", row["idx"])
        tree.grow(leaf(body))
        events.append(e)
        if tree.size in signed:
            want(tree.root() == signed[tree.size], "the root of", tree.size, "events is not the signed one")
    want(tree.size == max(signed), "there are", tree.size, "events, signed are", max(signed))
    return events


def counts(lines, events):
    upto = lines.pop(0)["rolled_up"]
    derived = {}
    for e in events[:upto]:
        for k in rollup_keys(e):
            derived[k] = derived.get(k, 0) + 1
    stored = {tuple(r[n] for n in ("cube", "day", "kind", "outcome", "email", "sub", "target")): r["n"] for r in lines}
    want(len(stored) == len(lines) and stored == derived, "the rollups are not what the events give")


def mirror(base):
    def read(path):
        with open(os.path.join(base, path), "rb") as f:
            return f.read()

    key_text = read("key").decode()
    key, signed = read_key(key_text), {}
    for name in os.listdir(os.path.join(base, "checkpoint")):
        size, root = checkpoint(read("checkpoint/" + name).decode(), key)
        want(str(size) == name, "checkpoint", name, "signs", size)
        signed[size] = root
    last = max(signed)
    events = log(stream(os.path.join(base, "log.ndjson")), signed)
    for size in signed:
        t = Tree()
        for h in tiles(read, size):
            t.grow(h)
        want(t.root() == signed[size], "the tiles of", size, "events do not give the signed root")
    hashes = tiles(read, last)
    want([leaf(e) for e in entries(read, last)] == hashes, "the entries are not those that the tiles hash")
    proofs = json.loads(read("proofs.json"))
    for p in proofs["inclusion"]:
        inclusion([b64(h) for h in p["proof"]], p["index"], p["size"], signed[p["size"]], hashes[p["index"]])
    for p in proofs["consistency"]:
        consistency([b64(h) for h in p["proof"]], p["from"], signed[p["from"]], p["to"], signed[p["to"]])
    counts(stream(os.path.join(base, "rollups.ndjson")), events)
    for name in sorted(os.listdir(os.path.join(base, "bundle"))):
        bundle(read("bundle/" + name), key_text)
    print("ok: %d events, %d checkpoints, %d proofs" % (last, len(signed), len(proofs["inclusion"]) + len(proofs["consistency"])))


def main(args):
    try:
        if len(args) == 3 and args[0] == "bundle":
            with open(args[1], encoding="utf-8") as k, open(args[2], "rb") as f:
                e = bundle(f.read(), k.read())
            print("ok: %s %s %s" % (e["id"], e["kind"], e["outcome"]))
        elif len(args) == 1:
            mirror(args[0])
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except (Wrong, ValueError, KeyError, TypeError, AttributeError, OSError) as err:
        print("WRONG: %s: %s" % (type(err).__name__, err), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
