"""Why the hub gave nothing, and what to do about it, in half a sentence. No torch here."""

import errno
import os
from collections.abc import Iterator


def reason(error: BaseException, repo: str, revision: str = "") -> tuple[str, bool]:
    """Turns what the hub's library raised into the reason and what mends it.

    Args:
        error: As it was caught; its causes are looked through, since the library wraps them.
        repo: Hub id.
        revision: The revision that was asked for, '' for the newest.

    Returns:
        Half a sentence, and whether another machine could get the files.
    """
    chain = list(_causes(error))
    for judge, elsewhere in (
        (_offline, True),
        (_access, False),
        (_missing, False),
        (_trouble, True),
        (_network, True),
        (_disk, False),
    ):
        for cause in chain:
            said = judge(cause, repo, revision)
            if said:
                return said, elsewhere
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__), True


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def _offline(error: BaseException, repo: str, revision: str) -> str:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if not isinstance(error, OfflineModeIsEnabled):
        return ""
    return "HF_HUB_OFFLINE is set, so nothing is fetched: unset it where there is network"


def _access(error: BaseException, repo: str, revision: str) -> str:
    from huggingface_hub import get_token
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    page, login = f"https://huggingface.co/{repo}", "`hf auth login` or HF_TOKEN=..."
    if isinstance(error, GatedRepoError):
        if get_token() is None:
            return f"it is gated: accept its licence at {page}, then {login}"
        return f"it is gated and your token has no access: accept its licence at {page} with the token's own account"
    if isinstance(error, HfHubHTTPError) and error.response.status_code == 401:
        if error.response.headers.get("X-Error-Message") == "Invalid credentials in Authorization header":
            return f"the hub does not know your token: make one at https://huggingface.co/settings/tokens, then {login}"
    return ""


def _missing(error: BaseException, repo: str, revision: str) -> str:
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository (or it is private): check the name, or `hf auth login` as who may see it"
    if isinstance(error, RevisionNotFoundError):
        return f"it has no revision {revision or 'main'}: name a branch, tag or commit that it has"
    if isinstance(error, HfHubHTTPError) and error.response.status_code == 404:
        return "the hub does not have it (404): check the name and the revision"
    return ""


def _trouble(error: BaseException, repo: str, revision: str) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    if not isinstance(error, HfHubHTTPError):
        return ""
    code = error.response.status_code
    if code == 429:
        return "the hub asks to be left alone for a while (429): try again in some minutes"
    if code >= 500:
        return f"the hub is in trouble (it answered {code}): try again later; finished files are kept"
    return f"the hub refused (it answered {code}): check the token's rights and HF_ENDPOINT"


def _network(error: BaseException, repo: str, revision: str) -> str:
    from huggingface_hub.constants import ENDPOINT

    # By name and base class: the hub's HTTP library has changed before, and its errors are no OSErrors.
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {"TimeoutException", "TimeoutError"}:
        return f"{ENDPOINT} took too long to answer: try again; finished files are kept"
    if names & {"RemoteProtocolError", "ReadError"} or "Consistency check failed" in str(error):
        return f"the connection to {ENDPOINT} broke off: try again; finished files are kept"
    if names & {"TransportError", "ConnectionError", "gaierror"}:
        return f"no connection to {ENDPOINT}: check the network (and HTTPS_PROXY, if you have one)"
    return ""


def _disk(error: BaseException, repo: str, revision: str) -> str:
    if not isinstance(error, OSError):
        return ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: free some, or name a folder on another disk with HF_HUB_CACHE=/other/disk/hub"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        where = error.filename or os.environ.get("HF_HOME") or "the hub's cache"
        return f"{where} may not be written: name a folder of yours with HF_HUB_CACHE=/your/hub"
    return ""
