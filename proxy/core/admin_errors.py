"""The ways in which the admin API says no, besides those that every call may meet (`errors`)."""

from proxy.core.errors import GatewayError, Source


class UnknownParameter(GatewayError):
    """A field or query parameter that the admin API does not know: a setting that is ignored would be a lie."""

    status, code, source = 400, "unknown_parameter", Source.CALLER


class InvalidAdminToken(GatewayError):
    """No admin token, or one that the configuration does not name."""

    status, code, source = 401, "invalid_admin_token", Source.CALLER
    should_retry = False


class TenantNotFound(GatewayError):
    """Neither the configuration nor the store names the tenant that is to be administered."""

    status, code, source = 404, "tenant_not_found", Source.CALLER


class VirtualKeyNotFound(GatewayError):
    """No virtual key has this id."""

    status, code, source = 404, "virtual_key_not_found", Source.CALLER


class ProviderKeyNotFound(GatewayError):
    """No provider key of the tenant's has this id, or none is stored there any more."""

    status, code, source = 404, "provider_key_not_found", Source.CALLER


class UnsupportedContentType(GatewayError):
    """The admin API reads JSON alone, and the request says that it is something else."""

    status, code, source = 415, "unsupported_content_type", Source.CALLER


class AdminNotConfigured(GatewayError):
    """The configuration names no admin token, so nobody administers this gateway over HTTP."""

    status, code, source = 403, "admin_not_configured", Source.POLICY
    should_retry = False


class AdminRoleMissing(GatewayError):
    """The admin token is valid, and lacks the role that the operation needs."""

    status, code, source = 403, "admin_role_missing", Source.POLICY
    should_retry = False


class ForeignOrigin(GatewayError):
    """A browser sent this for a web page of another machine."""

    status, code, source = 403, "foreign_origin", Source.POLICY
    should_retry = False


class TenantIsInFile(GatewayError):
    """The configuration's file names the tenant, and the file wins."""

    status, code, source = 409, "tenant_in_file", Source.POLICY
    should_retry = False


class TenantInUse(GatewayError):
    """The tenant has virtual keys that still work, provider keys that are stored, or calls under way."""

    status, code, source = 409, "tenant_in_use", Source.POLICY
    should_retry = False


class KeyringNotConfigured(GatewayError):
    """The configuration names no KEK, so no provider key can be sealed."""

    status, code, source = 409, "keyring_not_configured", Source.POLICY
    should_retry = False
