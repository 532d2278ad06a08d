"""Transcribe a session while it is recorded.

python transcribe.py http://SERVER:8080 SESSION [TOKEN]
"""

import asyncio
import json
import struct
import sys

import aiohttp
import numpy as np


async def transcribe(server, session, token, model, block_s=5.0):
    """Yield what `model` makes of each block: mono, 16 kHz, float32 from -1 to 1."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url, waiting = f"{server}/api/sessions/{session}/pcm", np.zeros(0, np.float32)
    async with aiohttp.ClientSession(headers=headers) as http, http.ws_connect(url) as socket:
        rate_hz = json.loads(await socket.receive_str())["sample_rate_hz"]
        size = int(block_s * 16_000) * rate_hz // 16_000
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:  # an event: missed, format or end
                print(message.data, file=sys.stderr)
                continue
            _, length, _, channels, flags = struct.unpack_from("<QIBBH", message.data)
            if flags & 1:  # a gap, which has no samples
                continue
            samples = np.frombuffer(message.data, "<i2", offset=16).reshape(length, channels)
            waiting = np.append(waiting, samples.mean(axis=1, dtype=np.float32) / 32_768)
            while len(waiting) >= size:
                block, waiting = waiting[:size], waiting[size:]
                yield await asyncio.to_thread(model, to_16_khz(block, rate_hz))
        if len(waiting):
            yield await asyncio.to_thread(model, to_16_khz(waiting, rate_hz))


def to_16_khz(samples, rate_hz):
    """Average neighbours (of 48 kHz), or repeat samples (of 8 kHz)."""
    if rate_hz < 16_000:
        return samples.repeat(16_000 // rate_hz)
    step = rate_hz // 16_000
    return samples[: len(samples) // step * step].reshape(-1, step).mean(axis=1)


def your_model(block):
    """Put a speech recognizer here. This one says how long and how loud a block is."""
    return f"[{len(block) / 16_000:.1f} s, {np.sqrt(np.mean(block**2)):.3f}]"


async def main(server, session, token=None):
    async for words in transcribe(server, session, token, your_model):
        print(words, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
