"""The only code that changes a job's state: submit, claim, advance, finish, cancel, expire.

Every change is one transaction: a compare-and-set on the job, the line in its history, the record of
its attempt, and a NOTIFY. The legal moves stand in :mod:`dccf.lifecycle.transitions`.
"""
