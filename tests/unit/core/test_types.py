from proxy.core.types import InboundRequest


def test_a_request_shows_its_method_and_its_path_alone():
    headers = ((b"authorization", b"Bearer sk-one"), (b"x-api-key", b"sk-two"), (b"api-key", b"sk-three"))
    request = InboundRequest("POST", "/v1/x", "/x", ("x",), "api-key=sk-four", headers, "127.0.0.1")
    request.once("sk-five", lambda: "sk-six")
    assert repr(request) == str(request) == "InboundRequest('POST', '/v1/x')"
