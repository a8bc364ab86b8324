"""A job engine: leases, retries, processes and clusters; it knows no quantization.

Any number of processes, on any number of machines, may run the same jobs in one folder of a file system that they
share: one with exclusive creation and renaming in one step, which object stores have not. These invariants keep them
from spoiling each other's work:

- **Writes are atomic.** Every file that another process may read is replaced as a whole or linked as a whole, never
  written in place (logs, which only people read, are appended to). A process killed at any moment leaves the old file
  or the new one.
- **A lease is a numbered claim.** The claim of a job with the highest number counts. A new one is made by exclusive
  creation of the next number, and only where the last one was given up or its holder is dead, so of all that try, one
  gets the job. Claims are never removed. Only its holder writes a claim again, to say how the job ended.
- **A heartbeat outlives the claims.** A process writes a file of its own from before its first claim until after its
  last release. On the same machine its process decides whether it lives; from another machine it counts as dead after
  `presence.STALE` seconds without a sign of life, by the clock of the file system.
- **The one that was overtaken stops.** Who lost a claim sees the next number (`leases.fence`) at its next report, and
  leaves the job without a release. A lock on the job's log keeps two processes of one machine from writing at once.
- **Results count, not words.** A job is finished when its result can be read, and its claim is released after that. A
  failure is marked before its claim is released, and a mark of failure is removed before a claim is released as
  finished.
- **A job starts after its needs.** Nothing that was seen finished becomes open again, and each job has at most one
  process of this scheduler at work on it.
"""
