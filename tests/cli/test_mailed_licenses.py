"""A license file that `licensing license issue` wrote comes back good from mail."""

import email
import quopri
from collections.abc import Callable
from email import policy
from email.message import EmailMessage, Message
from pathlib import Path

import pytest

from tests.cli.conftest import Licensing

ISSUE = ("license", "issue", "--organization", "acme", "--product", "Water", "--until", "2099-12-31")
NAMES = {"ASCII": "Acme Water Oy", "others": "Äänekosken Vesi ja Ympäristö Oy, Jätevedenpuhdistamo"}
MAILS = [
    ("ASCII", "7bit"),
    *((name, encoding) for name in NAMES for encoding in ("quoted-printable", "8bit", "base64")),
]


def sent(message: EmailMessage) -> EmailMessage:
    """A message as its reader gets it: written as SMTP wants it, no line too long for it, and parsed again."""
    message["From"], message["To"], message["Subject"] = "vendor@example.com", "acme@example.com", "Your license"
    data = message.as_bytes(policy=policy.SMTP)
    assert max(map(len, data.split(b"\r\n"))) <= 998
    received = email.message_from_bytes(data, policy=policy.default)
    assert isinstance(received, EmailMessage)
    return received


def content(part: Message) -> bytes:
    """The bytes of a part of a mail, decoded."""
    found = part.get_payload(decode=True)
    assert isinstance(found, bytes)
    return found


def inline(text: str, encoding: str) -> bytes:
    """The text of a mail that is nothing but the file."""
    message = EmailMessage()
    message.set_content(text, cte=encoding)
    return content(sent(message))


def attached(text: str, encoding: str) -> bytes:
    """A text that was attached, as a mail program saves it."""
    message = EmailMessage()
    message.set_content("Dear customer, this is your license.")
    message.add_attachment(text, filename="acme.lic", cte=encoding)
    (attachment,) = sent(message).iter_attachments()
    return content(attachment)


def flowed(text: str, encoding: str) -> bytes:
    """The text of a mail with format=flowed: a line that ends with a space goes on, one at a line's start is taken off
    (RFC 3676, section 4).
    """
    message = EmailMessage()
    message.set_content(text, cte=encoding, params={"format": "flowed"})
    lines = sent(message).get_content().split("\n")
    unstuffed = [line.removeprefix(" ") for line in lines]
    return "".join(line if line.endswith(" ") else f"{line}\n" for line in unstuffed).encode()


def issued(licensing: Licensing, name: str, *options: str) -> str:
    said = licensing(*ISSUE, "--organization-name", name, *options)
    assert said.code == 0, said.err
    return said.out


@pytest.mark.parametrize(("name", "encoding"), MAILS)
@pytest.mark.parametrize("mailed", [inline, attached, flowed])
def test_a_mailed_license_is_still_good(
    made: Path, licensing: Licensing, name: str, mailed: Callable[[str, str], bytes], encoding: str
) -> None:
    Path("mailed.lic").write_bytes(mailed(issued(licensing, NAMES[name]), encoding))
    said = licensing("license", "show", "mailed.lic")
    assert said.code == 0, said.err


def test_a_license_on_one_line_is_too_long_for_mail(made: Path, licensing: Licensing) -> None:
    with pytest.raises(AssertionError):
        inline(issued(licensing, NAMES["ASCII"], "--one-line"), "7bit")


def test_a_license_that_was_saved_with_its_soft_line_breaks_is_still_good(made: Path, licensing: Licensing) -> None:
    text = issued(licensing, NAMES["ASCII"], "--one-line").encode()
    folded = quopri.encodestring(text)
    assert folded.count(b"=\n") > text.count(b"\n")
    Path("mailed.lic").write_bytes(folded)
    said = licensing("license", "show", "mailed.lic")
    assert said.code == 0, said.err
