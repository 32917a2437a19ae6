"""Every trigger of the service, by name; what they do is elsewhere.

The host tries routes in the alphabetical order of the functions' names, so that the catch-all must sort last.
"""

import os

import azure.functions as func
from azure.functions.warmup import WarmUpContext

from licensing.api.app import create_app, service_factory
from licensing.api.functions import Bridge
from licensing.services.retention import run_retention
from licensing.services.sweep import sweep as run_sweep

service = service_factory(os.environ)
api = Bridge(create_app(service))
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.function_name("session_start")
@app.route("sessions", methods=["POST"])
async def session_start(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """A program starts."""
    return await api.handle_async(req, context)


@app.function_name("session_heartbeat")
@app.route("sessions/{session}/heartbeat", methods=["PUT"])
async def session_heartbeat(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """A program still runs."""
    return await api.handle_async(req, context)


@app.function_name("session_end")
@app.route("sessions/{session}", methods=["DELETE"])
async def session_end(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """A program ends."""
    return await api.handle_async(req, context)


@app.function_name("session_ended")
@app.route("sessions/{session}/ended", methods=["POST"])
async def session_ended(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """A program tells afterwards until when it ran."""
    return await api.handle_async(req, context)


@app.function_name("session_read")
@app.route("sessions/{session}", methods=["GET"])
async def session_read(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """A program asks what the register holds on it."""
    return await api.handle_async(req, context)


@app.function_name("license_current")
@app.route("licenses/current", methods=["POST"])
async def license_current(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """A program asks for the newest file of its license."""
    return await api.handle_async(req, context)


@app.function_name("usage_page")
@app.route("usage", methods=["GET"])
async def usage_page(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """The page on which a customer sees the use of its licenses."""
    return await api.handle_async(req, context)


@app.function_name("usage_data")
@app.route("usage/data", methods=["GET"])
async def usage_data(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """The figures on that page."""
    return await api.handle_async(req, context)


@app.function_name("usage_now")
@app.route("usage/now", methods=["GET"])
async def usage_now(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """How the licenses stand now, for that page."""
    return await api.handle_async(req, context)


@app.function_name("usage_metrics")
@app.route("usage/metrics", methods=["GET"])
async def usage_metrics(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """The same for a customer's monitoring."""
    return await api.handle_async(req, context)


@app.function_name("health")
@app.route("health", methods=["GET"])
async def health(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Whether the service can reach its store."""
    return await api.handle_async(req, context)


@app.function_name("openapi")
@app.route("openapi.json", methods=["GET"])
async def openapi(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """The contract, for machines."""
    return await api.handle_async(req, context)


@app.function_name("docs")
@app.route("docs", methods=["GET"])
async def docs(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """The contract, for people."""
    return await api.handle_async(req, context)


@app.function_name("zz_unknown")
@app.route("{*path}")  # which takes all methods
async def zz_unknown(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Anything else, which the app answers with a problem reply."""
    return await api.handle_async(req, context)


@app.function_name("sweep")
@app.timer_trigger(schedule="0 */5 * * * *", arg_name="timer")
async def sweep(timer: func.TimerRequest) -> None:
    """Every five minutes, end the sessions whose leases have lapsed."""
    running = service()
    await run_sweep(running.register, running.ledger, running.clock())


@app.function_name("retention")
@app.timer_trigger(schedule="0 30 2 * * *", arg_name="timer")
async def retention(timer: func.TimerRequest) -> None:
    """Every night, make the figures of what has closed and delete what is older than a year."""
    running = service()
    await run_retention(running.register, running.ledger, running.clock(), running.settings.small_group)


@app.function_name("warmup")
@app.warm_up_trigger("instance")
async def warmup(instance: WarmUpContext) -> None:
    """When the platform adds an instance, read the keys and connect to the store before a program has to wait."""
    await service().healthy()
