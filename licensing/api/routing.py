"""Routes that spare a valid request FastAPI's dependency solver, which takes as long as a lease's signature.

The way is FastAPI's own: a class of routes with another request handler. The contract stays FastAPI's, and so do the
replies to requests that are not valid.
"""

from collections.abc import Callable, Coroutine
from typing import Any, get_type_hints

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.responses import Response

JSON = "application/json"


class QuickRoute(APIRoute):
    """A route whose endpoint takes `request`, path parameters and perhaps a JSON body.

    It validates them by pydantic. What is not valid, or not sent as `application/json`, it leaves to FastAPI.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of this route's requests."""
        usual, endpoint = super().get_route_handler(), self.endpoint
        hints = get_type_hints(endpoint, include_extras=True)
        parameters = [(each.name, each.alias, TypeAdapter(hints[each.name])) for each in self.dependant.path_params]
        bodies = [(each.name, TypeAdapter(hints[each.name])) for each in self.dependant.body_params]

        async def handle(request: Request) -> Response:
            if bodies and request.headers.get("content-type") != JSON:
                return await usual(request)
            try:
                values = {name: adapter.validate_python(request.path_params[key]) for name, key, adapter in parameters}
                for name, adapter in bodies:
                    values[name] = adapter.validate_python(await request.json())
            except (ValueError, RecursionError):
                return await usual(request)
            reply: Response = await endpoint(request=request, **values)
            return reply

        return handle
