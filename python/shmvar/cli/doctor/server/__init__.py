"""`shmvar doctor URL`: looks at a Valkey or Redis and the segments on it, and names remedies.

| module | what it does |
| --- | --- |
| `examination` | looks at everything, and collects facts and findings |
| `asking` | asks a server; what this user may not ask cannot be seen |
| `facts` | reads what the server is and how it is set |
| `others` | reads of replicas and nodes of a cluster, and compares the clocks |
| `judgement` | findings about the server, from these facts |
| `rights` | which rights this user has of those that the package needs |
| `segments` | checks each segment, and finds what is left of others |
| `report` | facts, for people |
"""
