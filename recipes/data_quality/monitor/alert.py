"""The alarm: an e-mail with charts, over TLS that verifies the server."""

import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from html import escape

from .charts import image, runs_chart, trend_chart
from .config import Alert, secret
from .history import Past
from .status import Result, Run

_CHARTS = 5


def is_due(alert: Alert, run: Run) -> bool:
    return any(result.status in alert.on for result in run.results)


# --8<-- [start:message]
def message(alert: Alert, run: Run, past: Sequence[Past], page: str) -> EmailMessage:
    """As text, as HTML with the charts in it, and with the report attached."""
    bad = [it for it in run.worst_first if it.status in alert.on]
    mail = EmailMessage()
    mail["Subject"] = f"{run.worst}: {run.name} ({run.summary})"
    mail["From"] = alert.sender
    mail["To"] = ", ".join(alert.recipients)
    mail["Date"] = format_datetime(run.checked_at)
    mail["Message-ID"] = make_msgid(domain=alert.sender.partition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # so that no holiday notice answers
    lines = [f"{it.status}  {it.name}: {it.message}" for it in bad]
    mail.set_content("\n".join([f"{run.name} on {run.database}", "", *lines, ""]))
    charts = {"": image(runs_chart(past), "png")}
    for it in bad[:_CHARTS]:
        if of_it := [one for one in past if one.name == it.name]:
            charts[it.name] = image(trend_chart(of_it), "png")
    ids = {name: make_msgid(domain="monitor.invalid") for name in charts}
    mail.add_alternative(_html(run, bad, ids), subtype="html")
    body = mail.get_payload()[1]  # type: ignore[index]
    assert isinstance(body, EmailMessage)
    for name, content in charts.items():
        body.add_related(content, "image", "png", cid=ids[name], disposition="inline")
    if page:  # it could not be drawn, perhaps
        mail.add_attachment(page.encode(), "text", "html", filename="report.html")
    return mail


def _html(run: Run, bad: Sequence[Result], ids: dict[str, str]) -> str:
    def chart(name: str) -> str:
        cid = ids.get(name, "")[1:-1]
        img = f'<br><img src="cid:{cid}" alt="" width="560">'
        return img if cid else ""

    items = [
        f"<p><b>{it.status} {escape(it.name)}</b><br>{escape(it.message)}"
        f"{chart(it.name)}</p>"
        for it in bad
    ]
    about = f"{run.summary} on {run.database}, {run.checked_at:%Y-%m-%d %H:%M} UTC"
    head = f"<h2>{escape(run.name)}</h2><p>{escape(about)}{chart('')}</p>"
    return f'<div style="font-family: sans-serif">{head}{"".join(items)}</div>'


# --8<-- [end:message]


# --8<-- [start:send]
def send(alert: Alert, mail: EmailMessage) -> None:
    """Raises ConfigError, OSError, ssl.SSLError or smtplib.SMTPException."""
    user, password = secret(alert.user_env), secret(alert.password_env)
    context = ssl.create_default_context(cafile=alert.ca_file)  # verifies, and the name
    where, limit = (alert.host, alert.port), alert.timeout
    smtp: smtplib.SMTP
    if alert.security == "tls":
        smtp = smtplib.SMTP_SSL(*where, timeout=limit, context=context)
    else:
        smtp = smtplib.SMTP(*where, timeout=limit)
    with smtp:
        if alert.security == "starttls":
            smtp.starttls(context=context)  # without the context it trusts anybody
        smtp.login(user.get_secret_value(), password.get_secret_value())
        refused = smtp.send_message(mail)
    if refused:  # the others have it; smtplib raises only if all are refused
        raise smtplib.SMTPRecipientsRefused(refused)


# --8<-- [end:send]
