"""Why a change is not made: facts alone. Each door says them in its own words, with what to do there."""


class ChangeRefused(Exception):
    """The change is refused, and nothing was done."""


class TenantInFile(ChangeRefused):
    """The configuration's file names the tenant, and the file wins."""

    def __init__(self, tenant_id: str) -> None:
        super().__init__(tenant_id)
        self.tenant_id = tenant_id


class PlanUnknown(ChangeRefused):
    """The configuration has no such plan. `suggestion` is a sentence, or None."""

    def __init__(self, plan: str, suggestion: str | None) -> None:
        super().__init__(plan)
        self.plan = plan
        self.suggestion = suggestion


class TenantUnknown(ChangeRefused):
    """Nobody put the tenant; perhaps the file names it."""

    def __init__(self, tenant_id: str, *, is_in_file: bool) -> None:
        super().__init__(tenant_id)
        self.tenant_id = tenant_id
        self.is_in_file = is_in_file


class CallsUnderWay(ChangeRefused):
    """Calls of the tenant hold money that is not settled yet."""

    def __init__(self, tenant_id: str, calls: int) -> None:
        super().__init__(tenant_id)
        self.tenant_id = tenant_id
        self.calls = calls


class VirtualKeysWork(ChangeRefused):
    """Virtual keys of the tenant still open the door."""

    def __init__(self, tenant_id: str, virtual_keys: int) -> None:
        super().__init__(tenant_id)
        self.tenant_id = tenant_id
        self.virtual_keys = virtual_keys


class ProviderKeysStored(ChangeRefused):
    """Provider keys of the tenant are stored: whoever gets its id next would spend with them."""

    def __init__(self, tenant_id: str, provider_keys: int) -> None:
        super().__init__(tenant_id)
        self.tenant_id = tenant_id
        self.provider_keys = provider_keys


class KeyringMissing(ChangeRefused):
    """The configuration names no KEK: nothing can be sealed or opened."""


class ProviderUnknown(ChangeRefused):
    """The configuration has no such provider. `suggestion` is a sentence, or None."""

    def __init__(self, provider: str, suggestion: str | None) -> None:
        super().__init__(provider)
        self.provider = provider
        self.suggestion = suggestion


class ProviderTakesNoKey(ChangeRefused):
    """The provider is the built-in one, which asks nobody for a key."""

    def __init__(self, provider: str) -> None:
        super().__init__(provider)
        self.provider = provider


class ProviderKeyUnknown(ChangeRefused):
    """No provider key is stored in this place, or has this id."""

    def __init__(self, tenant_id: str) -> None:
        super().__init__(tenant_id)
        self.tenant_id = tenant_id


class PepperIsNewest(ChangeRefused):
    """The configuration's newest pepper, which new virtual keys are issued under, is not retired."""

    def __init__(self, pepper: str) -> None:
        super().__init__(pepper)
        self.pepper = pepper


class PepperUnknown(ChangeRefused):
    """Neither the configuration nor a virtual key knows a pepper of this fingerprint."""

    def __init__(self, pepper: str) -> None:
        super().__init__(pepper)
        self.pepper = pepper


class PeppersUnnoted(ChangeRefused):
    """Some keys that work have no pepper noted: they may be under the one that is to be retired."""

    def __init__(self, pepper: str, virtual_keys: int) -> None:
        super().__init__(pepper)
        self.pepper = pepper
        self.virtual_keys = virtual_keys


class VirtualKeyUnknown(ChangeRefused):
    """No virtual key has this id."""

    def __init__(self, virtual_key_id: str) -> None:
        super().__init__(virtual_key_id)
        self.virtual_key_id = virtual_key_id


class DeploymentUnknown(ChangeRefused):
    """No model of the configuration has this deployment. `suggestion` is a sentence, or None."""

    def __init__(self, label: str, suggestion: str | None) -> None:
        super().__init__(label)
        self.label = label
        self.suggestion = suggestion


class ModelUnknown(ChangeRefused):
    """The configuration has no such model. `suggestion` is a sentence, or None."""

    def __init__(self, alias: str, suggestion: str | None) -> None:
        super().__init__(alias)
        self.alias = alias
        self.suggestion = suggestion


class SwitchInCircle(ChangeRefused):
    """The model that is to serve leads back to the one that it is to stand for."""

    def __init__(self, alias: str, to: str) -> None:
        super().__init__(alias)
        self.alias = alias
        self.to = to
