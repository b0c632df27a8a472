"""The NOTIFY channels and who listens on them."""

#: A job changed or has new log lines; the payload is its id. Streams and waiting requests listen.
JOB_CHANGED = "dccf_job"
#: An active job shall be cancelled; the payload is its id. Workers listen.
CANCEL_REQUESTED = "dccf_cancel"
#: There may be room for hints or something due; no payload. Controllers listen.
WORK_TO_DO = "dccf_work"
