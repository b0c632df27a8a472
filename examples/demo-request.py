"""Submits the demonstration job over plain HTTP and prints its id; needs nothing but Python.

    python examples/demo-request.py [URL]

The URL is http://127.0.0.1:8080 when left out; a token is read from DCCF_TOKEN. With --wait it also
waits for the job and prints what it left in /output.
"""

import argparse
import base64
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request


def ask(method, url):
    """Send one request and give its JSON."""
    request = urllib.request.Request(url, data=b"" if method == "POST" else None, method=method)  # noqa: S310
    token = os.environ.get("DCCF_TOKEN")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def wait(url, job_id):
    """Wait for a job to end, and print the files of its /output."""
    query = urllib.parse.urlencode({"jobId": job_id})
    while (state := ask("GET", f"{url}/getJobStatus?{query}")) not in {"COMPLETE", "ERROR"}:
        time.sleep(0.5)
    print(state)
    for file in ask("GET", f"{url}/getResultingFiles?{query}"):
        if file["fileType"] == "RETURN":
            print(f"{file['name']}: {base64.b64decode(file['fileData']).decode().strip()}")
    return 0 if state == "COMPLETE" else 1


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Submits the demonstration job and prints its id.")
    parser.add_argument("url", nargs="?", default=os.environ.get("DCCF_API_URL", "http://127.0.0.1:8080"))
    parser.add_argument("--wait", action="store_true", help="wait for the job and print what it wrote")
    options = parser.parse_args()
    url = options.url.rstrip("/")
    try:
        job_id = ask("POST", f"{url}/submitDemo")
        print(job_id, flush=True)
        return wait(url, job_id) if options.wait else 0
    except urllib.error.HTTPError as error:
        print(f"{url} answered {error.code}: {error.read().decode()}", file=sys.stderr)
    except urllib.error.URLError as error:
        print(f"{url} cannot be reached: {error.reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
