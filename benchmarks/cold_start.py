"""A cold start: what `import function_app` costs beyond the libraries that it cannot do without, and its memory."""

import asyncio
import sys

from benchmarks.common import ROOT, Bench, Line

LIBRARIES = (
    "azure.functions, azure.data.tables.aio, aiohttp, fastapi, cryptography.hazmat.primitives.asymmetric.ed25519"
)
MEASURED = """
import time
began = time.process_time()
import {modules}
cpu = time.process_time() - began
lines = open("/proc/self/status").read().splitlines()
print(cpu, next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024)
"""


async def run(bench: Bench) -> list[Line]:
    """In fresh processes, one after the other."""
    seconds: dict[str, list[float]] = {"function_app": [], LIBRARIES: []}
    memory: dict[str, list[float]] = {"function_app": [], LIBRARIES: []}
    for number in range(-1, bench.choose(11, 3)):  # the first fills the caches of files
        for modules in seconds:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", MEASURED.format(modules=modules), stdout=asyncio.subprocess.PIPE, cwd=ROOT
            )
            answer, _ = await process.communicate()
            if number >= 0:
                cpu, resident = map(float, answer.split())
                seconds[modules].append(cpu)
                memory[modules].append(resident)
    naive = "(naive column: the libraries alone)"
    return [
        Line(f"import function_app: processor time {naive}", "s", seconds["function_app"], seconds[LIBRARIES], 1.3),
        Line(f"import function_app: memory {naive}", "MiB", memory["function_app"], memory[LIBRARIES]),
    ]
