"""The command `shmvar top`: all segments at once, again and again, on a screen that is left as it was.

It disturbs nobody. It attaches read-only, so it takes no participant number; it takes no lock, wakes nobody, and
between two looks it is attached to nothing, so no memory stays because of it. A process of its own does the looking:
whoever may write to a segment can cut it short, which kills a reader, and can hold a reader up. Then that process is
replaced, and the screen goes on.

| module | what it does |
| --- | --- |
| `command` | the command and its options |
| `facts` | what is known of a segment at a moment, and changes a second from two moments |
| `looking` | looks at the segments once |
| `observer` | the process that looks, and this process's end of it |
| `sorting` | the order of the rows |
| `columns` | the columns, which of them a width has room for, and what stands in them |
| `drawing` | the lines of the screen; `details`: those about the selected segment |
| `keys` | keys that are pressed |
| `terminal` | takes the terminal, gives it back however the program ends, and writes what has changed on it |
| `loop` | the live screen: waits for keys, signals, facts and time |
| `plain` | tables and lines of JSON, where there is no terminal to take |
"""
