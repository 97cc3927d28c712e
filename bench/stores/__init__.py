"""What `bench/peers.py` measures, and how.

values    the kinds of values, and how each is turned into bytes where a store takes only bytes
store     what a store must be able to do, and how it says what it cannot
ours      shmvar as a store
memory    stores in shared memory: multiprocessing's own, and packages
servers   stores behind a server or in a file
registry  all of them, by name
cells     get and put, beside a reference and shmvar
pairs     two processes: a hand-over, counters
faults    what a reader sees of a writer, and what is left when a writer is killed
child     the other processes of a measurement
host      the process that measures one store, with a /dev/shm of its own where that is possible
php       PHP's own functions, measured by PHP
report    the table in Markdown, and the plots
"""
