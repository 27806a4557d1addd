"""Codes by mail: what a mail server really receives."""

import email
import re
import socket
import threading
import uuid

import pytest

from client import User
from stack import Stack, free_port, wait_for

PASSWORD = "Correct-horse-7-battery"


class MailServer:
    """As much of RFC 5321 as a client needs to hand a message over."""

    def __init__(self, port, refuse=False):
        self.messages, self.refuse = [], refuse
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection):
        with connection, connection.makefile("rb") as lines:
            def say(text):
                connection.sendall(text.encode() + b"\r\n")

            say("220 test")
            sender, to = "", []
            for line in lines:
                word = line.decode().strip()
                if word.upper().startswith("EHLO"):
                    say("250 test")
                elif word.upper().startswith("MAIL FROM"):
                    sender = word
                    say("250 ok")
                elif word.upper().startswith("RCPT TO"):
                    to.append(word)
                    say("550 no such mailbox" if self.refuse else "250 ok")
                elif word.upper() == "DATA":
                    say("354 go on")
                    text = b""
                    for part in lines:
                        if part == b".\r\n":
                            break
                        text += part
                    self.messages.append((sender, to, email.message_from_bytes(text)))
                    say("250 taken")
                elif word.upper() == "QUIT":
                    say("221 bye")
                    return
                else:
                    say("500 what")

    def close(self):
        self.listener.close()


@pytest.fixture(scope="module")
def mailed():
    port = free_port()
    server = MailServer(port)
    stack = Stack(environment={"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(port),
                               "EMAILS_FROM_EMAIL": "busbar@example.org",
                               "EXTERNAL_URL": "https://busbar.example.org"})
    stack.server = server
    stack.wait()
    yield stack
    assert stack.stop() == 0
    server.close()


def message_to(stack, address, subject):
    """The newest message to this address with this subject."""
    def found():
        return [message for _, to, message in stack.server.messages
                if any(address in line for line in to) and subject in message["Subject"]]
    return wait_for(found, f"a mail to {address}")[-1]


def test_an_address_is_proved_and_a_password_recovered_by_mail(mailed):
    address = f"mia+tag-{uuid.uuid4().hex[:8]}@example.org"
    user = User(mailed.base)
    user.token = user.post("/auth/signup", {"email": address, "password": PASSWORD}, expect=201)["token"]
    message = message_to(mailed, address, "Confirm")
    assert message["From"] == "busbar@example.org" and message["To"] == address
    assert message["Date"] and message["Message-ID"]
    text = message.get_payload()
    code = re.search(r"Code: (\S+)", text).group(1)
    assert f"https://busbar.example.org/app/verify-email?email={address.replace('+', '%2B').replace('@', '%40')}" \
           f"&code={code}" in text
    user.post("/auth/verify-email", {"email": address, "confirmation_code": code})
    assert user.get("/auth/me")["is_verified"] is True

    user.post("/auth/forgot-password", {"email": address})
    code = re.search(r"Code: (\S+)", message_to(mailed, address, "Reset").get_payload()).group(1)
    user.post("/auth/reset-password", {"email": address, "confirmation_code": code,
                                       "new_password": "Another-horse-8"})
    wait_for(lambda: user.request("GET", "/auth/me").status_code == 401, "the old session's end")
    assert user.post("/auth/signin", {"email": address, "password": "Another-horse-8"})["token"]
    user.close()


def test_a_code_that_was_mailed_is_not_logged(mailed):
    codes = [re.search(r"Code: (\S+)", message.get_payload()).group(1)
             for _, _, message in mailed.server.messages]
    assert codes and not any(code in mailed.log_text() for code in codes)


def test_a_mail_server_that_refuses_stops_nobody(mailed):
    mailed.server.refuse = True
    user = User(mailed.base)
    address = f"nil-{uuid.uuid4().hex[:8]}@example.org"
    assert user.post("/auth/signup", {"email": address, "password": PASSWORD}, expect=201)["token"]
    wait_for(lambda: "mail was not sent" in mailed.log_text(), "a warning in the log")
    mailed.server.refuse = False
    user.close()
