"""The command `shmvar doctor`: looks at every segment and the machine, repairs what is safe to, and names remedies.

| module | what it does |
| --- | --- |
| `command` | the command and its options |
| `examination` | looks at everything, and collects facts and findings |
| `segments` | checks and repairs a segment |
| `objects` | finds what else is at the names of segments, and removes what dead processes left |
| `machine` | finds what the machine lacks |
| `machine_facts` | reads what the machine is and allows, from /proc, /sys and /etc |
| `findings` | the types of facts, findings and rows |
| `report` | prints facts and findings for people; `report_screen`: on a terminal |
| `server/` | `shmvar doctor URL`: the same for a server and the segments on it |
"""
