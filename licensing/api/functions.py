"""The bridge from the Functions host to the app."""

import logging

import azure.functions as func

from licensing.api import problems
from licensing.api.middleware import HEADERS


class Bridge(func.AsgiMiddleware):
    """The SDK's middleware. It raises on a request that it cannot read; this answers 400 in place of a 500."""

    def __init__(self, app: object) -> None:
        super().__init__(app)
        # Below ERROR, it logs headers that it cannot read.
        logging.getLogger("azure.functions").setLevel(logging.ERROR)

    async def handle_async(self, req: func.HttpRequest, context: func.Context | None = None) -> func.HttpResponse:
        """Serve one request. The SDK raises ValueError for a path that is not text and a header that is no number."""
        try:
            return await super().handle_async(req, context)
        except ValueError:
            reply = problems.problem("malformed-request", headers=HEADERS)
            return func.HttpResponse(
                bytes(reply.body),
                status_code=reply.status_code,
                headers=dict(reply.headers),
                mimetype=problems.MEDIA_TYPE,
            )
