"""Child processes that can be killed: each talks JSON lines and has a deadline for every call.

`service` is what a child runs and `serve` the loop it runs in. `killable_process` is the handle on
one, `restarting_process` a handle that starts another where one is lost, `process_team` a few of
these for several threads, and `process_pool` many behind one queue. Nothing in here knows what the
calls are about.
"""
