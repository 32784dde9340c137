"""Names that would reach further if somebody pasted them together, and paths that are somebody else's protocol."""

from __future__ import annotations

from tests.gateway.sockets import user_message
from tests.security.attacks import runs
from tests.security.scene import Scene

# Each as it is, for sockets and bodies; `quoted` spells it for a path.
NO_NAMES = [
    *("*", ">", "vau*", "vault.*", "*.vault", "_", ".", "..", ".vault", "vault.", "a=2e", "=2E", "vault=00"),
    *("b=2Evault", "b.vault"),
    *("vault\x00", "vault\n", "vault\r\nSf-Actor: user:vera", " vault", "vault ", "va ult", "vault/events", "../vault"),
    *("va%75lt", "%2e%2e", "$KV.sf-sessions", "$JS.API", "sf.ev.0.b.vault", "{{wildcard(3)}}", "vault\x7f"),
    *("v\u0430ult", "\uff56ault", "vault\u200b", "\u202evault", "va\u0301ult", "\u0661\u0662", "vau\u017ft"),
    *("x" * 129, "x" * 5000, ""),
]  # fmt: skip


_REFUSED = ("invalid_name", "invalid_event", "invalid_request", "not_found")


def quoted(name: str) -> str:
    return "".join(f"%{byte:02X}" for byte in name.encode())


@runs("N1")
async def test_what_is_no_name_is_refused_on_every_path(scene: Scene) -> None:
    mal = scene.attacker(sessions={"*": ["*"]})
    for name in NO_NAMES:
        for method, path, body in (
            ("GET", "", None),
            ("GET", "/events", None),
            ("GET", "/events?live=sse", None),
            ("GET", "/messages", None),
            ("GET", "/state", None),
            ("POST", "/events", {"body": {"type": "app.x"}}),
        ):
            reply = await mal.http(method, f"/v1/sessions/{quoted(name)}{path}", body, until=b"\n\n")
            # An empty name, and dots that clients take away, make other paths; a long one no request at all.
            wanted = {"invalid_name", "not_found", "invalid_request"}
            assert reply.status in (400, 404, 405, 414), (name, path)
            assert reply.code in wanted, (name, path)
        assert (await mal.http("POST", "/v1/sessions", {"session": name})).code == "invalid_name", name
    for some in (NO_NAMES[:20], NO_NAMES[20:]):
        async with mal.socket() as client:
            for name in some:
                for op, fields in (
                    ("open", {}),
                    ("append", {"event": {"body": {"type": "app.x"}}}),
                    ("state.list", {}),
                ):
                    assert (await client.ask(op, session=name, **fields))["code"] == "invalid_name", (op, name)
                assert (await client.ask("ping"))["op"] == "pong"


@runs("N1")
async def test_bytes_that_are_no_text_are_no_name(scene: Scene) -> None:
    mal = scene.attacker(sessions={"*": ["*"]})
    for path in ("%C0%AEvault", "vault%00", "%FFvault", "vault%ED%A0%80", "%E0%80%AE%E0%80%AE"):
        reply = await mal.http("GET", f"/v1/sessions/{path}")
        assert (reply.status, reply.code) == (400, "invalid_name"), path


@runs("N2")
async def test_another_tenant_within_a_name_is_ones_own_tenant_still(scene: Scene) -> None:
    mal, other = scene.attacker(), scene.theirs.tenant
    for name in (f"{other}.vault", f"{other}/vault", f"/{other}/vault", f"{other}>vault", f"{other}=2Evault"):
        reply = await mal.http("GET", f"/v1/sessions/{quoted(name)}/events")
        assert (reply.status, reply.code) == (400, "invalid_name"), name
    # These are names like any other.
    for name in (f"{other}:vault", f"{other}@vault", f"{other}~vault", f"{other}-vault"):
        assert (await mal.http("GET", f"/v1/sessions/{quoted(name)}/events")).code == "session_not_found"
        assert (await mal.http("POST", "/v1/sessions", {"session": name})).status in (200, 201)
        page = (await mal.http("GET", f"/v1/sessions/{quoted(name)}/events")).json
        assert [event["type"] for event in page["events"]] == ["session.created"]


@runs("N3")
async def test_no_name_within_a_session_reaches_beyond_it(scene: Scene) -> None:
    mal = scene.attacker()
    await mal.http("POST", "/v1/sessions", {"session": "mine"})
    one = "/v1/sessions/mine"
    bad = ("*", ">", "a/b", "a b", "a\x00", "\u0430", "x" * 129)
    for name in bad:
        at = quoted(name)
        for method, path, body in (
            ("GET", f"/state/{at}", None),
            ("PUT", f"/state/{at}", {"body": {}}),
            ("PATCH", f"/state/{at}", {"body": {}}),
            ("DELETE", f"/state/{at}", None),
            ("GET", f"/state/{at}/history", None),
            ("POST", f"/requests/{at}/answer", {"body": "x"}),
            ("PUT", f"/participants/user:{at}%20", None),
            ("POST", "/control", {"run": name, "action": "cancel"}),
            ("POST", "/events", {"id": name, "body": {"type": "app.x"}}),
            ("POST", "/events", {"body": {**user_message("x"), "pool": name}}),
            ("PUT", "/cursor", {"offset": scene.hidden.offset, "device": name}),
            ("GET", f"/floor?pool={at}", None),
        ):
            reply = await mal.http(method, one + path, body)
            assert reply.code in _REFUSED, (method, path, reply.body)
    # A dot is of a document's name, and not between documents of sessions.
    for name in ("vault.plan", "..", ".", "hidden.plan", f"{scene.theirs.tenant}.vault.plan"):
        async with mal.socket() as client:
            answer = await client.ask("state.get", session="mine", document=name)
            assert (answer["op"], answer["revision"], answer["body"]) == ("state", 0, None), name
            assert (await client.ask("state.watch", session="mine", document=name))["op"] == "ok"


@runs("N4")
async def test_the_tenant_is_the_tokens_whatever_else_is_said(scene: Scene) -> None:
    mal, other = scene.attacker(), scene.theirs.tenant
    plain = await mal.http("GET", "/v1/sessions/vault/events")
    assert plain.code == "session_not_found"
    for name in (
        "X_Tenant",
        "Tenant",
        "X_Sf_Tenant",
        "X_Forwarded_User",
        "Sf_Tenant",
        "X_Original_URL",
        "X_Rewrite_URL",
    ):
        for value in (other, f"/v1/sessions/vault?tenant={other}"):
            reply = await mal.http("GET", "/v1/sessions/vault/events", **{name: value})
            assert (reply.status, reply.body) == (plain.status, plain.body), name
    for path in (
        f"/v1/sessions?tenant={other}",
        f"/v1/sessions/vault?tenant={other}",
        f"/v1/sessions/vault/state?t={other}",
    ):
        assert (await mal.http("GET", path)).code in ("invalid_request", "session_not_found"), path
    assert (await mal.http("GET", f"/v1/sessions?tenant={other}")).code == "invalid_request"
    assert (await mal.http("POST", "/v1/sessions", {"session": "x", "tenant": other})).code == "invalid_request"
    async with mal.socket() as client:
        for op, fields in (("open", {}), ("append", {"event": {"body": {"type": "app.x"}}}), ("who", {})):
            answer = await client.ask(op, session="vault", tenant=other, **fields)
            assert answer["code"] == "invalid_request", op


@runs("X1")
async def test_paths_of_other_protocols_are_none(scene: Scene) -> None:
    mal, other = scene.attacker("operator:mal"), scene.theirs.tenant
    assert (await mal.http("GET", "/v1/stream/vault")).code == "stream_not_found"  # in one's own tenant
    paths = [
        *(
            "/v1/streams/vault",
            "/streams/vault?offset=-1",
            f"/{other}/vault",
            f"/v1/{other}/sessions",
        ),
        *(
            f"/v1/tenants/{other}/sessions/vault",
            f"/v1/sessions/vault@{other}/blobs/{scene.theirs.blob[:4]}",
            "/v1/blobs",
        ),
        *(
            "/jsz",
            "/varz",
            "/connz",
            "/subsz",
            "/v1/kv/sf-sessions",
            "/$JS.API.STREAM.LIST",
            "/admin",
            "/debug",
            "/.env",
        ),
        *(
            "/v1/sessions/../../etc/passwd",
            "/v1/sessions/vault/../../x",
            "//v1/sessions",
            "/v1/Sessions",
            "/v1/sessions/",
        ),
    ]
    for path in paths:
        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            reply = await mal.http(method, path, {} if method in ("PUT", "POST") else None)
            # The page's paths are there to be read by everybody, and for nothing else.
            assert reply.status in ((404,) if method in ("GET", "HEAD") else (404, 405)), (method, path)
            assert method == "HEAD" or reply.code in ("not_found", "invalid_request"), (method, path)
