"""A real WebSocket peer on the library `websockets`, for the end-to-end tests: an echo server, or a client that says one
message, hears it again and waits for its end. One JSON object per line on standard output says what happened."""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


def say(**what):
    print(json.dumps(what), flush=True)


def say_end(connection):
    say(closed=connection.close_code)


async def echo(connection):
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass
    await connection.wait_closed()
    say_end(connection)


async def server():
    async with serve(echo, "127.0.0.1", 0) as listening:
        say(ready=True, port=listening.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def client(address):
    # A message that compresses well, so that the extension is really used.
    message = "hello " * 1000
    async with connect(f"ws://{address}/chat", proxy=None) as connection:
        await connection.send(message)
        say(heard=await connection.recv() == message)
        await connection.wait_closed()
    say_end(connection)


if __name__ == "__main__":
    asyncio.run(server() if sys.argv[1] == "server" else client(sys.argv[2]))
