"""What a reader sees while a writer writes, and what is left when a writer is killed in the middle."""

import json
import random
import select
import time
from collections import Counter

import ratios

from stores import child
from stores.store import Store
from stores.values import example, whole


def torn(store: Store, effort: ratios.Effort) -> dict:
    """Reads what another process writes over and over, and counts the values that nobody has written."""
    seconds, kind, get = 0.05 if effort.smoke else min(1.0, effort.seconds), store.kind, store.get
    writer, reads, wrong, errors = child.start("write", store), 0, 0, Counter[str]()
    try:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for key in store.keys[: child.KEYS]:
                reads += 1
                try:
                    wrong += not whole(kind, get(key))
                except Exception as error:
                    errors[type(error).__name__] += 1
    finally:
        child.end(writer)
    return {"reads": reads, "torn": wrong, "errors": dict(errors)}


def kills(store: Store, effort: ratios.Effort) -> dict:
    """Kills a writer at a random moment, again and again; another process, attached before, says what it finds."""
    rounds, seconds, enough = (1, 5, 1) if effort.smoke else (20, 25, 5) if effort.most > 20 else (5, 8, 2)
    draw, end, outcomes, survivor, hangs = random.Random(7), time.monotonic() + seconds, Counter[str](), None, []
    if not store.one_writer:
        for key in store.keys[: child.KEYS]:
            store.put(key, example(store.kind, 0))
    done = 0
    while done < rounds and time.monotonic() < end and done - outcomes["clean"] < enough:
        done += 1
        try:
            writer = child.start("write", store)
        except RuntimeError as error:
            outcomes[f"no new writer: {str(error).split(': ', 1)[-1]}"] += 1
            continue
        try:
            survivor = survivor or child.start("survive", store, int(not store.one_writer))
            time.sleep(draw.uniform(0.005, 0.05))
        except RuntimeError as error:
            outcomes[f"nobody can attach: {str(error).split(': ', 1)[-1]}"] += 1
            continue
        finally:
            child.end(writer)
        begin = time.monotonic()
        wrong = asked(survivor)
        if wrong is None:
            outcomes["hung"] += 1
            child.end(survivor)
            survivor = None
        else:
            outcomes[", ".join(sorted(set(wrong))) or "clean"] += 1
            hangs.append(time.monotonic() - begin)
    if survivor:
        child.end(survivor)
    return {
        "rounds": done,
        "clean": outcomes["clean"],
        "outcomes": dict(outcomes),
        "longest s": max(hangs, default=None),
    }


def asked(survivor) -> list[str] | None:
    """What the survivor says is wrong; None: nothing, for too long."""
    survivor.stdin.write("look\n")
    survivor.stdin.flush()
    if not select.select([survivor.stdout], [], [], child.PATIENCE)[0]:
        return None
    line = survivor.stdout.readline()
    return json.loads(line) if line else ["the survivor died"]
