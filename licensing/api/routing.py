"""Routes that spare a valid request FastAPI's dependency solver, which takes as long as a lease's signature.

FastAPI makes the contract from them, and answers the requests that are not valid.
"""

from typing import Any, get_type_hints

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.types import Receive, Scope, Send

JSON = "application/json"


class QuickRoute(APIRoute):
    """A route whose endpoint takes `request`, path parameters and perhaps a JSON body, and returns a response.

    It validates them by pydantic. What is not valid, or not sent as `application/json`, it leaves to FastAPI.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        hints = get_type_hints(self.endpoint, include_extras=True)
        self._parameters = [
            (each.name, each.alias, TypeAdapter(hints[each.name])) for each in self.dependant.path_params
        ]
        self._bodies = [(each.name, TypeAdapter(hints[each.name])) for each in self.dependant.body_params]

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request whose path is this route's."""
        request = Request(scope, receive)
        values = await self._values(request) if scope["method"] in (self.methods or ()) else None
        if values is None:
            await super().handle(scope, receive, send)
            return
        reply = await self.endpoint(request=request, **values)
        await reply(scope, receive, send)

    async def _values(self, request: Request) -> dict[str, Any] | None:
        """The endpoint's arguments; None if they are not valid."""
        if self._bodies and request.headers.get("content-type") != JSON:
            return None
        try:
            values = {name: type_.validate_python(request.path_params[key]) for name, key, type_ in self._parameters}
            for name, type_ in self._bodies:
                values[name] = type_.validate_python(await request.json())
        except (ValueError, RecursionError):
            return None
        return values
