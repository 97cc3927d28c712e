"""A queue of work: with words they are put; without, works on them until Ctrl-C. Run as many as you like; kill some."""

import sys

import shmvar

jobs = shmvar.attach("example-queue").queue("jobs")
for job in sys.argv[1:]:
    jobs.put(job)
while not sys.argv[1:]:
    with jobs.take() as job:  # killed in here: another one begins this job again
        print(job.upper(), flush=True)
