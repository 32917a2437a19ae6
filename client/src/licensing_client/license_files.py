"""Which license file counts: the given one, or a newer one that the service sent."""

from licensing_client.errors import TokenError
from licensing_client.license import License, parse_token
from licensing_client.tokens import Keys


def newer_license(token: str, keys: Keys, given: License) -> License | None:
    """The license in a signed text, if one of `keys` signed it and it renews `given`; otherwise None.

    It renews a file with a lower serial, of the same license and the same customer.
    """
    try:
        license = parse_token(token, keys)
    except TokenError:
        return None
    renews = (license.id, license.organization_id) == (given.id, given.organization_id)
    return license if renews and license.serial > given.serial else None
