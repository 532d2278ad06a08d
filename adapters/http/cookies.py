"""The cookie that a browser gets when its user signs in (RFC 6265); it has the token itself."""

from __future__ import annotations

from urllib.parse import quote, unquote

from aiohttp import hdrs, web

from adapters.http.bodies import is_unicode
from adapters.http.callers import PUBLIC_URL

NAME = "gapless"
SECURE_NAME = f"__Host-{NAME}"
"""Over HTTPS: browsers take a cookie of such a name from the host itself only, and encrypted."""
MAX_BYTES = 4000
"""Of its value. Browsers keep 4096 bytes, with the name."""
SIGNED_IN = web.RequestKey("signed_in", str)
"""The token of a request that its cookie has let in."""


def token_in_cookie(request: web.Request) -> str:
    """Return the token in the cookie of a request; empty if there is none.

    If there are several of the name, somebody else may have added one (it is possible from another
    port of the host). Then there is none, so that nobody is signed in as somebody else.
    """
    name = cookie_name(request)
    found = {
        value.strip()
        for line in request.headers.getall(hdrs.COOKIE, ())
        for item in line.split(";")
        for key, _, value in [item.partition("=")]
        if key.strip() == name
    }
    if len(found) != 1:
        return ""
    try:
        token = unquote(found.pop(), errors="strict")
    except UnicodeDecodeError:
        return ""
    return token if is_unicode(token) else ""


def fits_cookie(token: str) -> bool:
    """Return whether browsers would keep a cookie with this token."""
    return len(_encoded(token)) <= MAX_BYTES


def set_cookie(request: web.Request, response: web.StreamResponse, token: str) -> None:
    """Give a browser the cookie; it forgets it when it is closed."""
    response.headers.add(hdrs.SET_COOKIE, _line(request, _encoded(token)))


def remove_cookie(request: web.Request, response: web.StreamResponse) -> None:
    """Let a browser forget the cookie."""
    response.headers.add(hdrs.SET_COOKIE, f"{_line(request, '')}; Max-Age=0")


def cookie_name(request: web.Request) -> str:
    """Return the name of the cookie for the scheme by which the client has found the server."""
    return SECURE_NAME if _is_secure(request) else NAME


def _line(request: web.Request, value: str) -> str:
    secure = "; Secure" if _is_secure(request) else ""
    return f"{cookie_name(request)}={value}; Path=/; HttpOnly; SameSite=Strict{secure}"


def _is_secure(request: web.Request) -> bool:
    return request[PUBLIC_URL].startswith("https://")


def _encoded(token: str) -> str:
    return quote(token, safe="")
