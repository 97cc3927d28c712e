"""The command line, `shmvar` or `python -m shmvar`.

Nothing else in the package imports these modules, and they are no interface for programs: only the commands are.

| module | what it does |
| --- | --- |
| `main` | runs a command; errors become a line on stderr and an exit status |
| `parser` | what the modules of commands add their commands and options to |
| `arguments` | reads the words of a command line: keys, indexes, values, sizes, times |
| `opening` | opens the segment that a command line names |
| `outcome` | exit statuses, and the error of a command that refuses |
| `printing` | text for people and for JSON: tables, times, owners; whether there is a terminal with colours |
| `screen` | what is shown on a terminal: what colours mean, bars, columns that fit |
| `progress` | a bar on stderr for what takes a while |
| `streams` | standard streams that are closed, or take no more |
| `urls` | keys that are URLs of segments on a server, and texts without their passwords |
| `values` | the commands `put`, `get`, `has` and `remove` |
| `listing` | the commands `ls`, `info` and `show`; `segment_screens`: what they have on a terminal |
| `watching` | the command `watch`; `watch_screen`: what it has on a terminal |
| `dumping` | the commands `dump` and `load` |
| `copying` | the command `copy` |
| `top/` | the command `top` |
| `completion/` | the command `completion`, and what shells ask at a TAB |
| `manual` | the command `manual`: the manual page |
| `doctor/` | the command `doctor` |
| `demo/` | the command `demo` |

A module of commands has a function `add_commands`, which adds them to the parser. What costs time to import is imported
by the command that needs it.
"""
