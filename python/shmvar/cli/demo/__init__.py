"""The command `shmvar demo`: processes write and read one segment and are killed at random; then the account.

| module | what it does |
| --- | --- |
| `command` | the command and its options |
| `show` | runs the demo, shows it live and prints the account |
| `stage` | the segment and the processes: starts and kills them, and draws up the account |
| `worker` | a process that writes or reads |
| `board` | what processes note about their work, where a kill cannot undo it |
| `samples` | values that prove that they are whole |
"""
