"""What the admin API answers: a status and a document; and refusals of the use cases, in its words."""

from typing import NamedTuple

from proxy.administration.refusals import (
    CallsUnderWay,
    ChangeRefused,
    DeploymentUnknown,
    KeyringMissing,
    ModelUnknown,
    PlanUnknown,
    ProviderKeysStored,
    ProviderKeyUnknown,
    ProviderTakesNoKey,
    ProviderUnknown,
    SwitchInCircle,
    TenantInFile,
    TenantUnknown,
    VirtualKeysWork,
    VirtualKeyUnknown,
)
from proxy.core.admin_errors import (
    KeyringNotConfigured,
    ProviderKeyNotFound,
    TenantInUse,
    TenantIsInFile,
    TenantNotFound,
    VirtualKeyNotFound,
)
from proxy.core.errors import GatewayError, InvalidParameter


class Said(NamedTuple):
    """An answer that is no error."""

    status: int
    document: dict[str, object]


def in_words(refused: ChangeRefused) -> GatewayError:
    """The error that says why nothing was changed, and what to do."""
    return _of_provider_keys(refused) or _of_routing(refused) or _of_tenants(refused)


def _of_routing(refused: ChangeRefused) -> GatewayError | None:
    match refused:
        case DeploymentUnknown(suggestion=suggestion):
            hint = suggestion or "GET /admin/v1/deployments lists them."
            return InvalidParameter(f"No model of the configuration has this deployment. {hint}", param="deployment")
        case ModelUnknown(suggestion=suggestion):
            hint = suggestion or "GET /admin/v1/models lists them."
            return InvalidParameter(f"The configuration has no such model. {hint}", param="model")
        case SwitchInCircle(alias=alias, to=to):
            message = f"{to} leads back to {alias}. Restore that first, or name another."
            return InvalidParameter(message, param="switched_to")
    return None


def _of_provider_keys(refused: ChangeRefused) -> GatewayError | None:
    match refused:
        case KeyringMissing():
            message = "The configuration names no KEK, so nothing can be sealed. Its operator writes [keyring] kek."
            return KeyringNotConfigured(message)
        case ProviderUnknown(suggestion=suggestion):
            message = "The configuration has no such provider."
            hint = suggestion or "Write it under [providers], and reload."
            return InvalidParameter(f"{message} {hint}", param="provider")
        case ProviderTakesNoKey():
            return InvalidParameter("This provider is the built-in one, and asks for no key.", param="provider")
        case ProviderKeyUnknown(tenant_id=tenant_id):
            message = f"No provider key has this id. GET /admin/v1/tenants/{tenant_id}/provider-keys lists them."
            return ProviderKeyNotFound(message, param="provider_key_id")
        case ProviderKeysStored(tenant_id=tenant_id, provider_keys=count):
            message = f"Provider keys of {tenant_id} are stored: {count}. Delete them, or add `?force=true`."
            return TenantInUse(message, param="force")
    return None


def _of_tenants(refused: ChangeRefused) -> GatewayError:
    match refused:
        case TenantInFile(tenant_id=tenant_id):
            where = f"[tenants.{tenant_id}]"
            message = f"The configuration's file has {where}, and the file wins. Change the tenant there, and reload."
            return TenantIsInFile(message, param="tenant_id")
        case PlanUnknown(suggestion=suggestion):
            message = "The configuration has no such plan."
            return InvalidParameter(f"{message} {suggestion or 'Write it under [plans], and reload.'}", param="plan")
        case TenantUnknown(tenant_id=tenant_id, is_in_file=True):
            message = (
                f"{tenant_id} was never put: it stands in the configuration's file. Take it out there, and reload."
            )
            return TenantIsInFile(message, param="tenant_id")
        case TenantUnknown(tenant_id=tenant_id):
            message = f"There is no tenant {tenant_id}. GET /admin/v1/tenants lists them; PUT adds one."
            return TenantNotFound(message, param="tenant_id")
        case CallsUnderWay(tenant_id=tenant_id, calls=calls):
            said = "1 call" if calls == 1 else f"{calls} calls"
            message = f"{said} of {tenant_id} are under way. Wait until they end, or add `?force=true`."
            return TenantInUse(message, param="force")
        case VirtualKeysWork(tenant_id=tenant_id, virtual_keys=count):
            message = f"{tenant_id} has virtual keys that still work: {count}. Revoke them, or add `?force=true`."
            return TenantInUse(message, param="force")
        case VirtualKeyUnknown():
            message = "No virtual key has this id. GET /admin/v1/virtual-keys lists them."
            return VirtualKeyNotFound(message, param="virtual_key_id")
    raise AssertionError(f"nothing is said of {type(refused).__name__}")
