"""The protocol's vectors (tests/vectors/ of the project), signed with the test keys of RFC 8037 and RFC 8032.

`python client/tests/vectors.py` writes them. They change only with the protocol: clients in other languages are
tested on them.
"""

import json
from pathlib import Path
from typing import Any

from factories import (
    ISSUER_KEY,
    NOW,
    SALT,
    SERVICE_KEY,
    STRANGER_KEY,
    jwk,
    lease_claims,
    lease_token,
    license_claims,
    license_file,
    sign,
    sign_header,
    x_of,
)
from licensing_client.identity import client_hash, normalized
from licensing_client.tokens import base64url, thumbprint
from licensing_client.transport import Reply
from newer_file_vectors import newer_files
from reference_service import ReferenceService
from time_vectors import times

FOLDER = Path(__file__).parents[2] / "tests" / "vectors"

SESSION = lease_claims()["sub"]
NONCE = lease_claims()["nonce"]
OTHER_SESSION = "0d9f6a52-7f0b-4e0c-8a6c-5b1d9f1c2e33"

NAMES = [
    ("user", "ada", "plain"),
    ("user", "Ada", "case"),
    ("user", "  ada\t", "white space"),
    ("host", "ada", "another kind"),
    ("host", "PC-1.Acme.Example", "a fully qualified name"),
    ("user", "straße", "full case folding: ß is ss"),
    ("user", "STRASSE", "the same person"),
    ("user", "STRA\u1e9eE", "with a capital ß: the same person"),
    ("user", "\u00c5ngstr\u00f6m", "composed"),
    ("user", "A\u030angstro\u0308m", "decomposed: the same person"),
    ("user", "ΟΔΥΣΣΕΥΣ", "a capital sigma at the end"),
    ("user", "οδυσσευς", "a final sigma: the same person"),
    ("user", "\u0130lker", "a capital i with a dot"),
    ("user", "\u0131lker", "a dotless i: another person"),
    ("user", "\uff21da", "a full-width letter"),
    ("user", "\ufb01nn", "a ligature"),
    ("user", "\uab70", "Cherokee folds to capitals"),
    ("user", "山田 太郎", "a space within"),
    ("user", "\U0001f600", "beyond the basic plane"),
    ("user", "\u0085ada\u2028\u2029", "a next line, a line and a paragraph separator: the plain name"),
    ("user", "\u1680ada\u2007\u202f\u205f", "an Ogham space mark and three other spaces: the plain name"),
    ("user", "\u001cada\u001f", "information separators are no white space: another person"),
    ("user", "\ufeffada", "a zero width no-break space is no white space: another person"),
    ("user", "\u200bada\u180e", "nor are a zero width space and a Mongolian vowel separator"),
]


ACCOUNTS = [
    ("ada", "ada", "a name alone"),
    ("ACME\\Ada", "Ada", "a Windows domain"),
    ("acme.example\\ada", "ada", "a domain in full"),
    ("ACME\\sub\\ada", "ada", "the last backslash counts"),
    ("ada@acme.example", "ada", "a user principal name"),
    ("ACME\\ada@acme.example", "ada", "both"),
    ("ACME\\", "ACME\\", "no name after the domain: as it is"),
    ("@acme", "@acme", "no name before the @: as it is"),
]
COMPUTERS = [
    ("PC-7", "PC-7", "a name alone"),
    ("pc-7.acme.example", "pc-7", "a name with a domain"),
    ("Annes-MacBook.local", "Annes-MacBook", "a name of a local network"),
    (".acme", ".acme", "nothing before the dot: as it is"),
]
SENT = [
    ("no list: the short names", [], [], "ann", "pc-7"),
    ("the short names are listed", ["ann", "ACME\\ann"], ["pc-7", "pc-7.local"], "ann", "pc-7"),
    ("the names as the system gave them are listed", ["ACME\\ann"], ["pc-7.local"], "ACME\\ann", "pc-7.local"),
    ("the full name is listed", [], ["pc-7.acme.example"], "ann", "pc-7.acme.example"),
    ("others are listed: the short names, which are refused", ["bob"], ["pc-8"], "ann", "pc-7"),
]


def sent_names() -> list[dict[str, Any]]:
    """What is sent by the user ACME\\ann on pc-7.local, which a resolver calls pc-7.acme.example."""
    return [
        {
            "what": what,
            "account": "ACME\\ann",
            "own": "pc-7.local",
            "full": "pc-7.acme.example",
            "users": [client_hash(SALT, "user", name) for name in users],
            "hosts": [client_hash(SALT, "host", name) for name in hosts],
            "person": {"user": client_hash(SALT, "user", user), "host": client_hash(SALT, "host", host)},
        }
        for what, users, hosts, user, host in SENT
    ]


def client_hashes() -> dict[str, Any]:
    """Names and their hashes."""
    return {
        "salt": base64url(SALT),
        "vectors": [
            {
                "what": what,
                "kind": kind,
                "name": name,
                "normalized": normalized(name),
                "hash": client_hash(SALT, kind, name),  # type: ignore[arg-type]
            }
            for kind, name, what in NAMES
        ],
        "accounts": [{"what": what, "account": account, "user": user} for account, user, what in ACCOUNTS],
        "computers": [{"what": what, "own": own, "host": host} for own, host, what in COMPUTERS],
        "sent": sent_names(),
    }


def lines_of_a_file() -> list[tuple[str, str, str | None]]:
    """What a line is in a license file: files, and the code of each; None: it covers the program."""
    token = sign("license+jwt", license_claims(), ISSUER_KEY)
    heading = "# A license for Acme Water Oy\n"
    head, tail = token[:76], token[76:]
    folded = [token[place : place + 76] for place in range(0, len(token), 76)]
    soft = [token[place : place + 75] for place in range(0, len(token), 75)]
    good = [
        ("a long line, as files of the first edition have", f"{heading}{token}\n"),
        ("lines end with CR LF", f"# One\r\n# Two\r\n\r\n{token}\r\n"),
        ("the last line has no end", f"{heading}{token}"),
        ("the last line ends with CR", f"{heading}{token}\r"),
        ("folded at 76 characters", heading + "\n".join(folded) + "\n"),
        ("folded at 76 characters, with CR LF", f"{heading}\r\n" + "\r\n".join(folded) + "\r\n"),
        ("folded where its parts end", token.replace(".", "\n.\n")),
        ("folded by the soft line breaks of quoted-printable", heading + "=\n".join(soft) + "\n"),
        ("such soft line breaks with white space and CR LF", heading + "= \t\r\n".join(soft) + "\r\n"),
        ("spaces and tabs around lines", f" \t# One\n \t\n\t {head} \t\n  {tail}\t \n \n"),
        ("comments and blank lines after it", f"{token}\n\n# That is all\n\n"),
        ("a byte order mark before a comment", f"\ufeff{heading}{token}\n"),
        ("a byte order mark before the signed text", f"\ufeff{token}\n"),
        ("CR alone in a comment", f"# One\rTwo\n{token}\n"),
        ("form feed, vertical tab and separators in a comment", f"# One\fTwo\vThree\x1cFour\x1e\n{token}\n"),
        ("a next line (NEL) in a comment", f"# One\u0085Two\n{token}\n"),
        ("a line separator in a comment", f"# One\u2028Two\u2029Three\n{token}\n"),
        ("a byte order mark in a comment", f"#\ufeff One\n{token}\n"),
        ("a comment of a number sign", f"#\n{token}\n#"),
    ]
    malformed = [
        ("two byte order marks", f"\ufeff\ufeff{heading}{token}\n"),
        ("a byte order mark before the signed text, not at the beginning", f"{heading}\ufeff{token}\n"),
        ("a byte order mark before a second comment", f"{heading}\ufeff# Two\n\n{token}\n"),
        ("CR alone between a comment and the signed text", f"# One\r{token}\n"),
        ("CR alone within the signed text", f"{heading}{head}\r{tail}\n"),
        ("two CR at the end of a blank line", f"{heading}\r\r\n{token}\n"),
        ("two CR at the end of the signed text", f"{heading}{token}\r\r\n"),
        ("a space after CR", f"{heading}{token}\r \n"),
        *[
            (f"{name} {where} the signed text", f"{heading}{text}\n")
            for name, mark in [
                ("a form feed", "\f"),
                ("a next line (NEL)", "\u0085"),
                ("a line separator", "\u2028"),
                ("a no-break space", "\u00a0"),
            ]
            for where, text in [
                ("before", f"{mark}{token}"),
                ("within", f"{head}{mark}{tail}"),
                ("after", token + mark),
            ]
        ],
        ("a no-break space on a line of its own", f"{heading}\u00a0\n\n{token}\n"),
        ("a comment within the signed text", f"{head}\n# Two\n{tail}\n"),
        ("a blank line within the signed text", f"{head}\n\n{tail}\n"),
        ("a line of spaces within the signed text", f"{head}\r\n \t\r\n{tail}\r\n"),
        ("two = at the end of a line", f"{heading}{head}==\n{tail}\n"),
        ("= at the end of the last line", f"{heading}{token}=\n"),
        ("= within a line", f"{heading}{head}={tail}\n"),
        ("text on the next line", f"{heading}{token}\nKind regards\n"),
        ("text after a blank line", f"{heading}{token}\n\nKind regards\n"),
        ("text before it", f"Dear customer,\n{token}\n"),
        ("text before it, and a blank line", f"Dear customer,\n\n{token}\n"),
        ("a comment that mail has folded", f"# A license for\nAcme Water Oy\n{token}\n"),
        ("quoted in an answer", "".join(f"> {line}\n" for line in folded)),
        ("twice, on lines that follow each other", f"{token}\n{token}\n"),
        ("twice, and a blank line between", f"{token}\n\n{token}\n"),
        ("no line but the mark and white space", "\ufeff \t\r\n\r\n"),
    ]
    wrong = [
        ("a line of the signed text is missing", heading + "\n".join(folded[:5] + folded[6:]) + "\n"),
        (
            "two lines of the signed text are exchanged",
            "\n".join([*folded[:5], folded[6], folded[5], *folded[7:]]) + "\n",
        ),
    ]
    return [
        *[(what, file, None) for what, file in good],
        *[(what, file, "license-malformed") for what, file in malformed],
        *[(what, file, "license-invalid") for what, file in wrong],
    ]


def _with_plain_signature(file: str) -> str:
    """A license file whose signature has the characters + and / of plain base64."""
    content, _, signature = file.rpartition(".")
    plain = signature.replace("-", "+").replace("_", "/")
    assert plain != signature, "sign something else"
    return f"{content}.{plain}\n"


def license_files() -> dict[str, Any]:
    """License files that fail verification, and files that do or do not cover a program."""
    ann = client_hash(SALT, "user", "ann")
    desk = client_hash(SALT, "host", "desk.example.com")
    person = {"user": ann, "host": desk}
    program = {"product": "Fluidit Water", "built": "2026-09-20", "features": ["gis"]}
    header = {"typ": "license+jwt", "alg": "EdDSA", "kid": thumbprint(x_of(ISSUER_KEY))}
    good = license_file()

    def case(what: str, code: str | None, now: int = NOW, who: dict[str, str] = person, **claims: Any) -> Any:
        return {"what": what, "file": license_file(**claims), "now": now, "person": who, "code": code}

    return {
        "issuer_keys": [jwk(ISSUER_KEY)],
        "program": program,
        "not_genuine": [
            {"what": what, "file": file}
            for what, file in [
                ("empty", ""),
                ("only a comment", "# nothing\n"),
                ("two licenses", good + good),
                ("cut short", good.strip()[:-9] + "\n"),
                ("a signature in plain base64", _with_plain_signature(good.strip())),
                ("a stranger signed it", sign("license+jwt", license_claims(), STRANGER_KEY)),
                ("a stranger signed it with our kid", sign_header(header, license_claims(), STRANGER_KEY)),
                ("alg none", sign_header(header | {"alg": "none"}, license_claims(), ISSUER_KEY)),
                (
                    "a header that brings its key",
                    sign_header(header | {"jwk": jwk(ISSUER_KEY)}, license_claims(), ISSUER_KEY),
                ),
                ("another type", sign("lease+jwt", license_claims(), ISSUER_KEY)),
                ("floating, yet nothing recorded", license_file(collect=False)),
                ("named-user without users", license_file(kind="named-user")),
                ("node-locked without hosts", license_file(kind="node-locked")),
                ("no lease keys", license_file(lease_keys={"keys": []})),
                ("a hold of more than the grace and a minute", license_file(grace=3600, hold=3661)),
                ("a hold that is text", license_file(hold="3600")),
            ]
        ],
        "judged": [
            case("it fits", None),
            case("a claim that nobody knows yet", None, rebate={"percent": 10}),
            case("another product", "product-not-licensed", product="Fluidit Heat"),
            case("the second before it begins", "license-not-yet-valid", nbf=NOW + 1),
            case("the first second", None, nbf=NOW),
            case("the last second", None, exp=NOW + 1),
            case("the second after", "license-expired", exp=NOW),
            case("built after the maintenance ended", "maintenance-over", maintenance_until=1789862399),
            case("built on the day on which it ended", None, maintenance_until=1789948799),
            case("no maintenance to end", None, maintenance_until=None),
            case("a feature is missing", "feature-not-licensed", features=[]),
            case("a named user", None, kind="named-user", users=[ann]),
            case("another named user", "user-not-allowed", kind="named-user", users=[client_hash(SALT, "user", "bob")]),
            case("a listed host", None, kind="node-locked", hosts=[desk]),
            case("another host", "host-not-allowed", kind="node-locked", hosts=[client_hash(SALT, "host", "other")]),
            case("a hold of the grace and a minute", None, grace=3600, hold=3660),
        ],
        "lines": [
            {"what": what, "file": file, "now": NOW, "person": person, "code": code}
            for what, file, code in lines_of_a_file()
        ],
    }


def leases() -> dict[str, Any]:
    """Leases that answer a request, and leases that do not."""
    header = {"typ": "lease+jwt", "alg": "EdDSA", "kid": thumbprint(x_of(SERVICE_KEY))}
    return {
        "issuer_keys": [jwk(ISSUER_KEY)],
        "license": license_file(),
        "session": SESSION,
        "nonce": NONCE,
        "genuine": [
            {"what": "an ordinary lease", "lease": lease_token(), "claims": lease_claims()},
            {
                "what": "a borrowed seat, beyond those bought",
                "lease": lease_token(exp=NOW + 5 * 86400, borrowed=True, overdraft=True),
                "claims": lease_claims(exp=NOW + 5 * 86400, borrowed=True, overdraft=True),
            },
            {
                "what": "to be confirmed: a seat that will be borrowed for five days",
                "lease": lease_token(grace=0, offered=NOW + 5 * 86400),
                "claims": lease_claims(grace=0, offered=NOW + 5 * 86400),
            },
            {
                "what": "to be confirmed under a hold: offered is the same as exp",
                "lease": lease_token(grace=0, offered=NOW + 900),
                "claims": lease_claims(grace=0, offered=NOW + 900),
            },
        ],
        "refused": [
            {"what": what, "lease": lease}
            for what, lease in [
                ("for another session", lease_token(sub=OTHER_SESSION)),
                ("for another license", lease_token(aud="other")),
                ("an answer to another request", lease_token(nonce="AAAAAAAAAAAAAAAAAAAA")),
                ("by another issuer", lease_token(iss="somebody")),
                ("signed with the issuer's key, not the service's", sign("lease+jwt", lease_claims(), ISSUER_KEY)),
                ("signed by a stranger", sign("lease+jwt", lease_claims(), STRANGER_KEY)),
                ("signed by a stranger with the service's kid", sign_header(header, lease_claims(), STRANGER_KEY)),
                ("a license in its place", sign("license+jwt", lease_claims(), SERVICE_KEY)),
                ("alg HS256", sign_header(header | {"alg": "HS256"}, lease_claims(), SERVICE_KEY)),
                ("no end", lease_token(exp=...)),
                ("an end that is text", lease_token(exp="soon")),
                ("cut short", lease_token()[:-7]),
                ("an offered end that is text", lease_token(offered="later")),
            ]
        ],
    }


def _reply(reply: Reply) -> dict[str, Any]:
    return {"status": reply.status, "headers": dict(reply.headers), "body": reply.body.decode()}


def _granted(status: int = 200, *, recorded: bool = True, waiting: object = ..., **lease: Any) -> Reply:
    seats = {"in_use": 1, "total": 2} if waiting is ... else {"in_use": 2, "total": 2, "waiting": waiting}
    body = {
        "session": SESSION,
        "lease": lease_token(**lease),
        "expires_at": "2026-09-21T14:28:20Z",
        "heartbeat_seconds": 300,
        "seats": seats,
        "overdraft": False,
        "recorded": recorded,
        "policy": {"version": "2026-01", "url": "https://example.com/privacy"},
    }
    return Reply(status, {"content-type": "application/json"}, json.dumps(body).encode())


def exchanges() -> dict[str, Any]:
    """Whole exchanges: the request, the reply, and its meaning."""
    problem = ReferenceService.problem
    lease = lease_token()
    person = {"user": client_hash(SALT, "user", "ann"), "host": client_hash(SALT, "host", "desk.example.com")}
    token = sign("license+jwt", license_claims(), ISSUER_KEY)
    start = {"license": token, "session": SESSION, **person, "nonce": NONCE}
    bearer = {"Authorization": f"Bearer {lease}"}
    requests: dict[str, Any] = {
        "start": {"method": "POST", "path": "/sessions", "headers": {}, "body": start},
        "borrow": {"method": "POST", "path": "/sessions", "headers": {}, "body": start | {"borrow_seconds": 432000}},
        "heartbeat": {
            "method": "PUT",
            "path": f"/sessions/{SESSION}/heartbeat",
            "headers": bearer,
            "body": {"nonce": NONCE},
        },
        "end": {"method": "DELETE", "path": f"/sessions/{SESSION}", "headers": bearer, "body": None},
    }
    replaces = {"replaces": lease_token(sub=OTHER_SESSION), "ran_until": "2026-09-21T14:12:00Z"}
    requests |= {
        "replace": requests["start"] | {"body": start | replaces},
        "replace and borrow": requests["start"] | {"body": start | {"borrow_seconds": 432000} | replaces},
        "ended": {
            "method": "POST",
            "path": f"/sessions/{SESSION}/ended",
            "headers": bearer,
            "body": {"ran_until": "2026-09-21T14:12:00Z"},
        },
    }
    requests["wait"] = requests["start"] | {"body": start | {"wait": True}}
    full = problem(409, "no-seat-available", {"retry-after": "30"})
    busy = problem(503, "storage-unavailable", {"retry-after": "5"})
    portal = Reply(200, {"content-type": "text/html"}, b"<html>Please sign in</html>")
    moved = Reply(302, {"location": "https://portal.example.com/"}, b"")
    liar = problem(403, "license-suspended")
    liar = Reply(409, liar.headers, liar.body)
    rewritten = Reply(403, liar.headers, problem(503, "license-suspended").body)
    untyped = Reply(403, {"content-type": "application/json"}, problem(403, "license-suspended").body)
    old = _granted(nonce="AAAAAAAAAAAAAAAAAAAA")
    cut = Reply(200, {"content-type": "application/json"}, _granted().body[:80])
    silent: list[tuple[str, str, Reply, Any]] = [
        ("start", "a captive portal", portal, "no-answer"),
        ("start", "a redirect", moved, "no-answer"),
        ("start", "an old answer played again", old, "no-answer"),
        ("start", "a reply that was cut", cut, "no-answer"),
        ("start", "the store does not answer", busy, {"no-answer": 5}),
        ("start", "too many requests, says the front end", Reply(429, {"retry-after": "20"}, b""), {"no-answer": 20}),
        ("start", "a status that does not fit its code", liar, "no-answer"),
        ("start", "a status that is not the body's", rewritten, "no-answer"),
        ("start", "a refusal of another media type", untyped, "no-answer"),
        ("heartbeat", "a captive portal", portal, "no-answer"),
        ("heartbeat", "an old answer played again", old, "no-answer"),
        ("heartbeat", "a refusal that only a start can get", full, "no-answer"),
        ("end", "a captive portal", portal, "no-answer"),
        ("end", "the store does not answer", busy, "no-answer"),
    ]
    spoken: list[tuple[str, str, Reply, Any]] = [
        ("start", "a seat is free", _granted(201), "granted"),
        ("start", "the same start again", _granted(200), "granted"),
        ("borrow", "a seat for a trip", _granted(201, exp=NOW + 432000, borrowed=True), "granted"),
        ("start", "a license that is not recorded", _granted(201, recorded=False), "granted"),
        ("start", "all seats are taken", full, {"refused": "no-seat-available", "retry_after": 30}),
        ("start", "suspended", problem(403, "license-suspended"), {"refused": "license-suspended"}),
        ("start", "superseded", problem(403, "license-superseded"), {"refused": "license-superseded"}),
        ("start", "not genuine", problem(401, "license-invalid"), {"refused": "license-invalid"}),
        ("start", "the id is somebody else's", problem(400, "malformed-request"), "gone"),
        ("heartbeat", "it still runs", _granted(200), "granted"),
        ("heartbeat", "suspended", problem(403, "license-suspended"), {"refused": "license-suspended"}),
        ("heartbeat", "expired", problem(403, "license-expired"), {"refused": "license-expired"}),
        ("heartbeat", "the session has lapsed", problem(410, "session-gone"), "gone"),
        ("heartbeat", "the lease is not accepted, or was damaged", problem(401, "lease-invalid"), "unaccepted"),
        ("end", "the seat is free", Reply(204, {}, b""), "ended"),
        ("end", "the session was gone", problem(410, "session-gone"), "ended"),
        ("end", "the lease is not accepted, or was damaged", problem(401, "lease-invalid"), "unaccepted"),
    ]
    to_confirm = _granted(201, grace=0, offered=NOW + 432000)
    recalled = problem(403, "seat-recalled")
    mislabelled = Reply(409, recalled.headers, recalled.body)
    later: list[tuple[str, str, Reply, Any]] = [
        ("replace", "the seat of the session before", _granted(201), "granted"),
        (
            "replace",
            "all seats are taken: the session before goes on",
            full,
            {"refused": "no-seat-available", "retry_after": 30},
        ),
        ("replace", "a service that does not know it", problem(400, "malformed-request"), "gone"),
        ("replace and borrow", "a seat for a trip, to be confirmed", to_confirm, "granted"),
        ("start", "a repeat of a session that an administrator has recalled", recalled, {"refused": "seat-recalled"}),
        ("heartbeat", "an administrator asks for the seat", recalled, {"refused": "seat-recalled"}),
        ("heartbeat", "a recall whose status is not the reply's", mislabelled, "no-answer"),
        ("heartbeat", "the seat is borrowed", _granted(200, exp=NOW + 432000, borrowed=True), "granted"),
        ("ended", "noted, or nothing was found", Reply(204, {}, b""), "done"),
        ("ended", "the lease is not accepted", problem(401, "lease-invalid"), "done"),
        ("ended", "the time cannot be read", problem(400, "malformed-request"), "done"),
        ("ended", "the session is gone", problem(410, "session-gone"), "done"),
        ("ended", "a captive portal", portal, "no-answer"),
        ("ended", "the store does not answer", busy, "no-answer"),
        ("ended", "a service that does not know it", problem(404, "not-found"), "no-answer"),
    ]
    return {
        "issuer_keys": [jwk(ISSUER_KEY)],
        "license": license_file(),
        "session": SESSION,
        "nonce": NONCE,
        "requests": requests,
        "exchanges": [
            *[
                {"call": call, "what": what, "reply": _reply(reply), "means": means}
                for call, what, reply, means in [*spoken, *silent, *later]
            ],
            *_exchanges_in_line(),
        ],
    }


def _exchanges_in_line() -> list[dict[str, Any]]:
    """Replies that tell of the line, with the `position` and how many are `waiting` that a client reads in them."""
    taken = {"in_use": 2, "total": 2}

    def refused(
        what: str, place: int | None, waiting: int, seconds: int = 15, header: str | None = None, **members: Any
    ) -> dict[str, Any]:
        headers = {"retry-after": header or str(seconds)}
        reply = ReferenceService.problem(409, "no-seat-available", headers, members)
        means = {"refused": "no-seat-available", "retry_after": seconds}
        return {"call": "wait", "what": what, "reply": _reply(reply), "means": means} | line(place, waiting)

    def granted(call: str, what: str, waiting: int, sent: object) -> dict[str, Any]:
        reply = _reply(_granted(201 if call == "wait" else 200, waiting=sent))
        return {"call": call, "what": what, "reply": reply, "means": "granted"} | line(None, waiting)

    def line(position: int | None, waiting: int) -> dict[str, Any]:
        return {"position": position, "waiting": waiting}

    def no_place(what: str, sent: object) -> dict[str, Any]:
        return refused(what, None, 5, position=sent, seats=taken | {"waiting": 5})

    def nobody(what: str, sent: object) -> dict[str, Any]:
        return refused(what, 3, 0, position=3, seats=taken | {"waiting": sent})

    return [
        refused("the third in line of five", 3, 5, position=3, seats=taken | {"waiting": 5}),
        refused("the next in line", 1, 1, 5, position=1, seats=taken | {"waiting": 1}),
        refused("no place: 50 wait already", None, 50, 40, position=None, seats=taken | {"waiting": 50}),
        refused("an older service: no member tells of a line", None, 0, seats=taken),
        refused("no seats are named", 2, 0, position=2),
        refused("a time of 0 seconds is none", 1, 1, 60, "0", position=1, seats=taken | {"waiting": 1}),
        refused("a negative time is none", 1, 1, 60, "-5", position=1, seats=taken | {"waiting": 1}),
        refused("a time that is not whole is none", 1, 1, 60, "0.5", position=1, seats=taken | {"waiting": 1}),
        refused("no more than an hour is believed", 1, 1, 3600, "86400", position=1, seats=taken | {"waiting": 1}),
        refused("seats without their total are none", 2, 0, position=2, seats={"in_use": 2, "waiting": 5}),
        refused(
            "seats whose total is no number are none", 2, 0, position=2, seats={**taken, "total": True, "waiting": 5}
        ),
        no_place("a position of 0 is none", 0),
        no_place("a negative position is none", -1),
        no_place("a position that is no whole number is none", 2.5),
        no_place("a position that is text is none", "3"),
        no_place("a position that is true is none", True),
        nobody("a negative number of those who wait is none", -1),
        nobody("a number of those who wait that is not whole is none", 1.5),
        nobody("a number of those who wait that is text is none", "5"),
        nobody("nobody knows how many wait", None),
        granted("wait", "a seat, and others wait", 3, 3),
        granted("heartbeat", "it still runs, and others wait", 2, 2),
        granted("heartbeat", "it still runs, and nobody waits", 0, 0),
        granted("heartbeat", "a number of those who wait that is no number is none", 0, "many"),
    ]


def files() -> dict[str, str]:
    """Every vector file and its text."""
    made = {
        "client-hashes.json": client_hashes(),
        "license-files.json": license_files(),
        "leases.json": leases(),
        "exchanges.json": exchanges(),
        "times.json": times(),
        "newer-files.json": newer_files(),
    }
    return {name: json.dumps(content, indent=1, ensure_ascii=False) + "\n" for name, content in made.items()}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, "utf-8")
