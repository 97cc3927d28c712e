"""Event loops of asyncio: a coroutine with a time limit, and a task that shows that the loop goes on."""

import asyncio
import time

from helpers.machine import SLOWER


def run(main, timeout=80):
    """Runs a coroutine in a loop of its own; after so many seconds it is cancelled, and the test fails."""

    async def limited():
        return await asyncio.wait_for(main, timeout * SLOWER)

    return asyncio.run(limited())


async def tick(turns):
    """Appends the time every 10 ms: shows that the event loop goes on."""
    while True:
        turns.append(time.monotonic())
        await asyncio.sleep(0.01)
