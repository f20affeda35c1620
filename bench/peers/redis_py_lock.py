"""redis-py's Lock as a contender: the words, lines and records are those of contenders.h.

With the single word --available it only says, by its exit code, whether redis-py is installed.
"""

import struct
import sys
import time

try:
    import redis
except ImportError:
    sys.exit("redis-py is not installed")


def take_turns(client, name, begin, end, section, who):
    turns = []
    while time.monotonic_ns() < begin:
        time.sleep(0.0002)
    while True:
        asked = time.monotonic_ns()
        if asked >= end:
            return turns
        lock = client.lock(name, timeout=10)
        if not lock.acquire(blocking_timeout=20):
            sys.exit("redis-py did not get the lock within 20 s")
        got = time.monotonic_ns()
        time.sleep(section / 1e6)
        released = time.monotonic_ns()
        lock.release()
        turns.append(struct.pack("=qqqi4x", asked, got, released, who))


def main():
    if sys.argv[1:] == ["--available"]:
        return
    url, name, section, who, path = sys.argv[1:]
    client = redis.Redis.from_url(url)
    client.ping()
    turns = []
    print(".", end="", flush=True)
    for line in sys.stdin:
        begin, end = map(int, line.split())
        turns = take_turns(client, name, begin, end, int(section), int(who))
        print(".", end="", flush=True)
    with open(path, "wb") as file:
        file.write(b"".join(turns))


main()
