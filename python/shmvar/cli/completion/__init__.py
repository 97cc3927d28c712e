"""Shell completion: `shmvar completion bash|zsh|fish`, and what the shells ask at a TAB.

The script of each shell is a few lines that hand on the line up to the cursor; what may stand there is found here, in
Python. So one place knows the commands, the live keys and how each must be typed. A shell never evaluates what it gets:
it inserts words that are quoted for it.

Why not `argcomplete` or `shtab`: a script of `shtab` is written once and knows no live keys; `argcomplete` asks Python
at each TAB as this does, but needs a package at run time, and hands words over as they are: what has control
characters, reads as a number or begins with a dash would not arrive as the key that it is.

| file | what it does |
| --- | --- |
| `command` | the command `completion`, which prints a script |
| `answer` | what a script asks: `shmvar __complete SHELL ...`, in no help |
| `line` | reads a line as a shell does, up to the cursor, without expanding anything |
| `bash_words` | how a word is inserted where bash replaces only a piece of what is typed |
| `place` | what may stand at the cursor: a command, an option, or the argument of which kind |
| `names` | keys and indexes as words that `arguments.name` reads back |
| `shmvar.bash`, `shmvar.zsh`, `shmvar.fish` | the scripts |
"""
