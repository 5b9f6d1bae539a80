"""Uses the client that a stock generator made of the OpenAPI document against a running gateway.

The generated code reads every answer into the types of the document, so an answer that does not fit them fails here.
Says what it saw as JSON, one line a step; the test that starts it scans the code in between.
"""

import json
import os
import sys
import uuid

from generated import AuthenticatedClient
from generated.api.messages import cancel, message, messages, send
from generated.api.sessions import connect, delete, disconnect, init, list_, qr, refresh_qr, rename, set_primary, status
from generated.models import (
    Changes,
    Failure,
    FailureErrorCode,
    MessageStatus,
    NewMessage,
    NewSession,
    SessionStatus,
)

gateway = AuthenticatedClient(base_url=os.environ["GATEWAY"], token=os.environ["TOKEN"], timeout=90.0)
recipient = os.environ["RECIPIENT"]


def data(answer):
    """The data of a success."""
    if isinstance(answer, Failure):
        raise SystemExit(f"refused: {answer.error.code}")
    assert answer is not None and answer.success is True, answer
    return answer.data


def refused(answer, code):
    assert isinstance(answer, Failure) and answer.error.code == code, answer


def say(**what):
    print(json.dumps(what), flush=True)


made = data(init.sync(client=gateway, body=NewSession(name="Generated", bridge=os.environ["BRIDGE"]), wait=60))
assert made.status == SessionStatus.QR_PENDING and made.qr_code, made.phase
assert data(qr.sync(made.id, client=gateway)).qr_code
say(scan=made.qr_code, object=made.object_)
# Scanned by now.
sys.stdin.readline()
now = data(status.sync(made.id, client=gateway))
assert now.status == SessionStatus.CONNECTED and now.phone_number, now.phase
assert data(rename.sync(made.id, client=gateway, body=Changes(name="Renamed"))).instance_name == "Renamed"
found = data(list_.sync(client=gateway))
assert found.total_count == 1 and found.sessions[0].id == made.id and found.connected_count == 1
refused(qr.sync(made.id, client=gateway), FailureErrorCode.ALREADYCONNECTED)
refused(refresh_qr.sync(made.id, client=gateway), FailureErrorCode.ALREADYCONNECTED)
assert data(set_primary.sync(made.id, client=gateway, wait=60)).is_primary

new = NewMessage(recipient=recipient, message="Hello from a generated client")
key = str(uuid.uuid4())
sent = data(send.sync(client=gateway, body=new, wait=60, idempotency_key=key))
assert sent.status in (MessageStatus.SENT, MessageStatus.DELIVERED), sent.status
again = data(send.sync(client=gateway, body=new, wait=60, idempotency_key=key))
assert again.id == sent.id
assert data(message.sync(sent.id, client=gateway)).whatsapp_id == sent.whatsapp_id
page = data(messages.sync(client=gateway, session_id=made.id))
assert [one.id for one in page.messages] == [sent.id] and page.next_cursor is None
refused(cancel.sync(sent.id, client=gateway), FailureErrorCode.TOOLATE)
refused(message.sync("a.b", client=gateway), FailureErrorCode.MESSAGENOTFOUND)
refused(send.sync(client=gateway, body=NewMessage(recipient="anna", message="x")), FailureErrorCode.INVALID)

assert data(disconnect.sync(made.id, client=gateway, wait=60)).status == SessionStatus.DISCONNECTED
waits = data(send.sync(client=gateway, body=NewMessage(recipient=recipient, message="Later")))
assert (waits.status, waits.waits_for) == (MessageStatus.QUEUED, "Connection"), waits.status
assert data(cancel.sync(waits.id, client=gateway)).status == MessageStatus.CANCELLED
assert data(connect.sync(made.id, client=gateway, wait=60)).status == SessionStatus.CONNECTED
data(delete.sync(made.id, client=gateway, wait=60))
refused(status.sync(made.id, client=gateway), FailureErrorCode.NOTFOUND)
say(done=True)
