"""Greenlets that wait for an item of a queue or for room: others run meanwhile, and a kill keeps no item."""

import helpers


def test_f60_other_greenlets_run_while_one_waits_for_an_item_or_for_room(seg, key, green):
    code = """
    s = shmvar.attach(key)
    jobs, turns, got = s.queue("jobs", maxsize=1), 0, []
    def tick():
        global turns
        while True:
            turns += 1
            sleep(0.002)
    ticker = spawn(tick)
    def take(timeout=60):
        with jobs.take(timeout) as job:
            got.append(job)
    def late(wait):
        global turns
        turns = 0
        while turns <= 20:  # others run only while this one waits
            try:
                wait()
            except shmvar.WaitTimeoutError:
                continue
            raise AssertionError("in time")
    late(lambda: jobs.get(timeout=0.5))
    late(lambda: take(0.5))
    jobs.put("first")
    late(lambda: jobs.put("second", timeout=0.5))
    # What another greenlet of the thread does ends the wait.
    join([spawn(jobs.put, "second"), spawn(take), spawn(take)])
    assert got == ["first", "second"] and s.info().queues == {}
    kill(ticker)
    """
    for patched in ("patch()", "patch(thread=True)"):
        green(code, key, patched=patched)


def test_a_greenlet_that_is_killed_in_its_work_or_in_the_wait_keeps_no_item(seg, key, green):
    code = """
    s = shmvar.attach(key)
    jobs, begun = s.queue("jobs"), []
    def work():
        with jobs.take() as job:
            begun.append(job)
            sleep(60)
    for turn in range(5):
        waiting = [spawn(work) for _ in range(3)]
        sleep(0.02)
        jobs.put(turn)
        while not begun:
            sleep(0.002)
        # What the first one gives back, the next one may begin before it is killed, too.
        for each in waiting:
            kill(each)
        while jobs.qsize() != 1:
            sleep(0.002)
        assert set(begun) == {turn} and jobs.get(timeout=60) == turn
        begun.clear()
    assert s.info().queues == {}
    """
    green(code, key)


def test_greenlets_of_two_processes_share_the_work(seg, key, green):
    seg["done"] = 0
    jobs = seg.queue("jobs")
    for number in range(200):
        jobs.put(number)
    code = """
    s = shmvar.attach(key)
    jobs = s.queue("jobs")
    def work():
        for _ in range(10):
            with jobs.take(60) as job:
                sleep(0.001)
                s.add("done", job)
    join([spawn(work) for _ in range(5)])
    """
    drop, code = green.program(code)
    helpers.run_in_processes(code, key, count=4, drop=drop)
    assert seg["done"] == sum(range(200)) and seg.info().queues == {}
