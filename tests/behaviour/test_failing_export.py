"""Promise: an export that fails is seen where an operator looks, and takes nothing out of service."""

import json

from tests.gateway import JSON, passthrough_to, plain_request, running_gateway
from tests.scripted_upstream import until

OFTEN = '[ledger]\nsink = "folder:ledger"\nexport_every_s = 0.1\nseal_rows_max = 1\n'
BODY = b'{"model":"m","messages":[]}'
SOON_S = 10.0


async def test_an_export_that_fails_is_a_warning_and_the_gateway_stays_ready(tmp_path, caplog):
    sink = tmp_path / "ledger"
    sink.write_text("in the way")
    async with running_gateway(passthrough_to("http://127.0.0.1:9/v1") + OFTEN, folder=tmp_path) as gateway:

        def report():
            return gateway.app.readiness.look()

        await plain_request(gateway, "POST", "/v1/chat/completions", BODY, [*JSON, (b"authorization", b"Bearer sk-x")])
        await until(lambda: "export" in report().warnings, SOON_S)
        assert str(sink) in report().warnings["export"]
        assert report().ready
        assert report().checks["export"] == "ok"
        assert json.loads(report().encode())["warnings"] == report().warnings
        assert f"{report().warnings['export'].removesuffix('.')}. Rows stay in the store meanwhile." in caplog.text
        sink.unlink()
        await until(lambda: report().warnings == {}, SOON_S)
