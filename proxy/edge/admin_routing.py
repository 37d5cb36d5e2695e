"""The admin API's deployments and models: `/admin/v1/deployments`, `/admin/v1/models`."""

from proxy.administration.descriptions import described_deployment, described_model
from proxy.core.errors import InvalidParameter
from proxy.edge.admin_pages import asked_page, listing
from proxy.edge.admin_request import Asked
from proxy.edge.admin_said import Said


async def list_deployments(asked: Asked) -> Said:
    """Those of the configuration, by label, and how they do."""
    page = asked_page(asked.query("limit", "after"))
    known = await asked.desk.routing.deployments()
    return Said(200, listing(known, lambda one: one.label, described_deployment, page))


async def drain_deployment(asked: Asked) -> Said:
    """Take one out of service, or put it back."""
    asked.query()
    fields = await asked.body("deployment", "drained")
    fields.required("deployment")
    fields.required("drained")
    label, drained = fields.text("deployment"), fields.flag("drained")
    assert label is not None
    assert drained is not None
    known, notes = await asked.desk.routing.drain(label, drained=drained)
    return Said(200, {**described_deployment(known), "notes": list(notes)})


async def list_models(asked: Asked) -> Said:
    """Those of the configuration, in its order."""
    page = asked_page(asked.query("limit", "after"))
    known = await asked.desk.routing.models()
    return Said(200, listing(known, lambda one: one.alias, described_model, page))


async def switch_model(asked: Asked) -> Said:
    """Let another serve in a model's place, or itself again."""
    asked.query()
    fields = await asked.body("model", "switched_to")
    fields.required("model")
    fields.required("switched_to")
    alias, to = fields.text("model"), fields.text_or_null("switched_to")
    assert alias is not None
    if alias == to:
        raise InvalidParameter("A model serves itself where `switched_to` is null.", param="switched_to")
    known, notes = await asked.desk.routing.switch(alias, to)
    return Said(200, {**described_model(known), "notes": list(notes)})
