"""The commands `shmvar php …`: segments that PHP shares, as `shmvar.php` reads and writes them.

| file | what is in it |
| --- | --- |
| `command` | adds the commands to the parser |
| `listing` | `ls`, `info` and `show`; what they have on a terminal: `screens` |
| `values` | `get`, `put`, `remove`, `clear` and `destroy` |
| `opening` | the segment of a KEY, and the semaphore of `--lock` around it |
| `kernel` | all System V segments, and which of them are PHP's |
| `preview` | a variable in a line |

`shmvar.php` is imported where a command runs: the parser does without.
"""
