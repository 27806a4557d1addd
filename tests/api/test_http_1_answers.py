"""What comes back: routes, parameters, bodies, error bodies, headers, documentation."""

import gzip

import pytest
from http_fixtures import Edge, token, wait_for


@pytest.fixture(scope="module")
def edge():
    edge = Edge().ready()
    yield edge
    codes = edge.stop()
    assert codes["edge.1"] == 0


def test_a_route_of_an_actor_answers(edge):
    answer = edge.get("/things/7?a=1&b=x%20y&c=p+q&d=%26%3D")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["params"] == {"id": "7", "a": "1", "b": "x y", "c": "p q", "d": "&="}


def test_a_literal_segment_wins_over_a_parameter(edge):
    assert edge.get("/things/new").json == {"literal": True}
    assert edge.get("/things/newer").json["id"] == "newer"


def test_a_verb_that_only_the_parameter_row_has_is_found_behind_a_literal(edge):
    assert edge.request("DELETE", "/things/new").status == 204


def test_the_rest_of_a_path_is_one_parameter(edge):
    assert edge.get("/tree/a/b/c%20d").json == {"rest": "a/b/c d"}


def test_a_trailing_slash_is_tolerated(edge):
    assert edge.get("/things/new/").status == 200


def test_an_alias_answers_and_names_its_pattern(edge):
    assert edge.get("/api/v1/things/7").json["meta"]["route"] == "/api/v1/things/:id"


def test_unknown_path_and_wrong_verb(edge):
    assert edge.get("/nope").status == 404
    answer = edge.request("PATCH", "/things/7")
    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "DELETE", "OPTIONS"}
    assert answer.json["code"] == "METHOD"


def test_an_error_body_says_its_text_three_times(edge):
    body = edge.get("/things/missing").json
    assert body["error"] == body["message"] == body["detail"] == "no such thing: missing"
    assert body["code"] == "NOT_FOUND" and body["details"] == {"id": "is not there"}
    assert body["request_id"] and "success" not in body


def test_errors_under_api_say_that_success_is_false(edge):
    assert edge.get("/api/things/missing").json["success"] is False
    assert "success" not in edge.get("/api/v1/things/missing").json


def test_a_crash_in_a_handler_says_nothing_of_its_inside(edge):
    answer = edge.get("/fails")
    assert answer.status == 500 and b"secret" not in answer.body


def test_every_success_has_a_json_body(edge):
    assert edge.get("/nothing").body == b"null"


def test_head_is_get_without_body(edge):
    answer = edge.request("HEAD", "/things/new")
    assert answer.status == 200 and answer.headers["content-length"] == str(len(b'{"literal":true}'))


def test_json_arrives_as_it_was_written(edge):
    value = {"a": [1, -2, 1.5, 2**63 - 1, None, True, "ä\u20ac"], "b": {}}
    for verb in ("POST", "PUT", "PATCH", "DELETE"):
        assert edge.request(verb, "/echo", value).json["body"] == value


def test_json_with_a_duplicate_key_is_refused(edge):
    answer = edge.post("/echo", b'{"a":1,"a":2}', {"Content-Type": "application/json"})
    assert answer.status == 400 and answer.json["code"] == "INVALID"


def test_an_empty_json_body_is_no_error(edge):
    assert edge.post("/echo", b"", {"Content-Type": "application/json"}).json["body"] is None


def test_forms_become_maps(edge):
    answer = edge.post("/echo", b"username=a%40b&password=x+y&empty=",
                       {"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.json["body"] == {"username": "a@b", "password": "x y", "empty": ""}
    body = (b"--b\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\nann\r\n"
            b"--b\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n\r\n--b--\r\n")
    answer = edge.post("/echo", body, {"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.json["body"] == {"username": "ann", "password": ""}


def test_a_media_type_nobody_reads_is_415(edge):
    assert edge.post("/echo", b"<a/>", {"Content-Type": "application/xml"}).status == 415
    assert edge.post("/raw", b"<a/>", {"Content-Type": "application/xml"}).json["size"] == 4


def test_a_compressed_body_is_415_not_garbage(edge):
    packed = gzip.compress(b'{"a":1}')
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert edge.post("/echo", packed, headers).status == 415
    assert edge.post("/echo", b"{}", {**headers, "Content-Encoding": "identity"}).status == 200


def test_headers_of_an_actor_come_through_and_cannot_break_out(edge):
    answer = edge.get("/tagged")
    assert answer.headers["x-shop"] == "yes"
    assert "x-evil" not in answer.headers and "x-bad" not in answer.headers


def test_ignored_fields_are_named_and_strict_refuses_them(edge):
    answer = edge.post("/orders", {"what": "x", "zz": 1})
    assert answer.status == 201 and answer.headers["x-ignored-fields"] == "zz"
    assert answer.headers["location"].startswith("/orders/")
    assert edge.post("/orders", {"what": "x", "zz": 1}, {"Prefer": "handling=strict"}).status == 400


def test_an_etag_makes_304(edge):
    for path in ("/tagged", "/things/new"):
        tag = edge.get(path).headers["etag"]
        answer = edge.get(path, {"If-None-Match": f'"other", {tag}'})
        assert answer.status == 304 and not answer.body and answer.headers["etag"] == tag


def test_large_answers_are_gzipped_when_that_is_taken(edge):
    plain = edge.get("/big?n=50000")
    packed = edge.get("/big?n=50000", {"Accept-Encoding": "br, gzip;q=0.5"})
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < 2000 and gzip.decompress(packed.body) == plain.body
    refused = edge.get("/big?n=50000", {"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers
    assert "content-encoding" not in edge.get("/big?n=100", {"Accept-Encoding": "gzip"}).headers


def test_a_large_answer_is_whole(edge):
    assert len(edge.get("/big?n=9000000").json["text"]) == 9000000


def test_raw_text_keeps_its_type(edge):
    answer = edge.get("/text")
    assert answer.body == b"a,b\n1,2\n" and answer.headers["content-type"].startswith("text/csv")


def test_request_id_and_trace_go_through(edge):
    answer = edge.get("/open", {"X-Request-Id": "my-id-1"})
    assert answer.headers["x-request-id"] == "my-id-1"
    assert answer.json["meta"]["request_id"] == "my-id-1"
    bad = edge.get("/open", {"X-Request-Id": 'x" y'})
    assert bad.headers["x-request-id"] != 'x" y'


def test_conditions_reach_the_actor(edge):
    meta = edge.get("/open", {"If-Match": '"v1"', "Idempotency-Key": "k1", "Prefer": "return=minimal",
                              "User-Agent": "tester"}).json["meta"]
    assert meta["if_match"] == '"v1"' and meta["idempotency_key"] == "k1"
    assert meta["prefer"] == "return=minimal" and meta["agent"] == "tester"
    assert meta["ip"] == "127.0.0.1"


def test_a_routing_key_is_taken_from_the_path(edge):
    assert edge.get("/keyed/k9").json["key"] == "k9"


def test_a_stream_comes_in_chunks(edge):
    answer = edge.get("/stream?n=3000000")
    assert answer.headers["transfer-encoding"] == "chunked" and answer.body == b"x" * 3000000


def test_the_root_answers_by_accept(edge):
    answer = edge.get("/", {"Accept": "application/json"})
    assert answer.status == 200 and answer.json["openapi"] == "/openapi.json"
    answer = edge.get("/", {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert answer.status == 302 and answer.headers["location"] == "/app/"
    assert b"<html" in edge.get("/app/").body.lower() or b"<!doctype" in edge.get("/app/").body.lower()


def test_files_of_the_page_cannot_be_left(edge):
    for path in ("/app/../../etc/passwd", "/app/%2e%2e/%2e%2e/etc/passwd", "/app/..%2f..%2fetc/passwd",
                 "/app//etc/passwd", "/app/assets/../../../../etc/passwd"):
        answer = edge.get(path)
        assert answer is None or b"root:" not in answer.body


def test_health_names_every_part(edge):
    body = edge.get("/health").json
    assert body["status"] == "healthy" and body["version"] and body["timestamp"].endswith("Z")
    assert body["environment"] and body["database"] == "connected"
    assert body["services"]["shop"] == "healthy"
    assert edge.get("/health/live").status == 200


def test_openapi_is_made_of_the_routes(edge):
    for path in ("/openapi.json", "/api/v1/openapi.json"):
        document = edge.get(path).json
        assert document["openapi"] == "3.1.0"
        thing = document["paths"]["/things/{id}"]["get"]
        assert thing["operationId"] == "shop.thing"
        assert thing["parameters"][0] == {"name": "id", "in": "path", "required": True,
                                          "schema": {"type": "string"}}
        assert document["paths"]["/open"]["get"]["security"] == []
        assert "/identity/check" not in document["paths"]
    body = document["paths"]["/orders"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["what"]
    ids = [op["operationId"] for verbs in document["paths"].values() for op in verbs.values()
           if "operationId" in op]
    assert len(ids) == len(set(ids))
    for path in ("/docs", "/redoc"):
        page = edge.get(path)
        assert page.status == 200 and b"openapi.json" in page.body and b"http://" not in page.body


def test_metrics_are_on_the_admin_port_only(edge):
    assert edge.get("/metrics").status == 404
    text = edge.get("/metrics", port=edge.admin_port).body.decode()
    assert 'api_requests_total{method="GET",endpoint="/things/:id",status="200"}' in text
    assert 'api_request_duration_seconds_bucket{method="GET",endpoint="/open",le="+Inf"}' in text
    assert edge.get("/things/7", port=edge.admin_port).status == 404


def test_the_access_log_has_one_line_per_request(edge):
    edge.get("/me?x=1", {"X-Request-Id": "logged-1"}, token=token())
    line = wait_for(lambda: [line for line in edge.logged().splitlines() if "req=logged-1" in line])[0]
    assert "user=ann" in line and "status=200" in line and "route=/me" in line and " ms=" in line


def test_cors_allows_any_origin_without_credentials(edge):
    answer = edge.get("/open", {"Origin": "https://a.example"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    answer = edge.request("OPTIONS", "/me", None, {
        "Origin": "https://a.example", "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization,apikey"})
    assert answer.status == 204 and answer.headers["access-control-max-age"] == "86400"
    assert answer.headers["access-control-allow-headers"] == "authorization,apikey"
    assert "GET" in answer.headers["access-control-allow-methods"]
