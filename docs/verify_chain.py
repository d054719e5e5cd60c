"""Verify a session's log from the HTTP API alone: python docs/verify_chain.py SESSION_ID [HOST:PORT]"""

import hashlib
import json
import sys
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection

server = HTTPConnection(sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:8080")
last, digest, token, start = 0, "0" * 64, None, datetime(1970, 1, 1, tzinfo=UTC)
while token != "":
    server.request("GET", f"/v1/sessions/{sys.argv[1]}/events?pageSize=500&pageToken={token or ''}")
    page = json.load(server.getresponse())
    for event in page["events"] if "events" in page else sys.exit(page["message"]):
        time = (datetime.fromisoformat(event["eventTime"]) - start) // timedelta(microseconds=1)
        text = f"{digest}\n{last + 1}\n{time}\n{event['payloadJson']}"
        last, digest = last + 1, hashlib.sha256(text.encode()).hexdigest()
        (event["sequence"], event["hash"]) == (str(last), digest) or sys.exit(f"BROKEN at event {last}")
    token = page["nextPageToken"]
sys.stdout.write(f"OK: {last} events, the last with hash {digest}\n")
