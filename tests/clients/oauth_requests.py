"""Signs requests with requests_oauthlib, sends them lawfully and not, and prints what came back.

Arguments: the daemon's URL, a consumer key, its secret, a template file. Prints one JSON object:
for each case its status and its WWW-Authenticate. Judges nothing; clients_oauth.rs does.
"""

import json
import sys
import time
import urllib.parse

import requests
import urllib3
from oauthlib.oauth1 import SIGNATURE_HMAC_SHA256, SIGNATURE_TYPE_QUERY
from requests_oauthlib import OAuth1

urllib3.disable_warnings()
URL, KEY, SECRET, TEMPLATE_FILE = sys.argv[1:5]
with open(TEMPLATE_FILE, encoding="utf-8") as file:
    TEMPLATE = file.read()
API = URL + "/imagefactory"
JSON = {"Content-Type": "application/json"}
SESSION = requests.Session()
SESSION.trust_env = False
SESSION.verify = False
RESULTS = {}


def prepared(method, path, key=KEY, secret=SECRET, options=None, **request):
    """A signed request that was not sent yet."""
    auth = OAuth1(key, secret, **(options or {}))
    return SESSION.prepare_request(requests.Request(method, API + path, auth=auth, **request))


def send(case, request):
    """Sends it and records what came back."""
    answer = SESSION.send(request, timeout=60, allow_redirects=False)
    RESULTS[case] = [answer.status_code, answer.headers.get("WWW-Authenticate")]
    return answer


def order(text="json"):
    """A base image's order as JSON; `text` makes one differ from another."""
    return json.dumps({"base_image": {"template": TEMPLATE, "parameters": {"note": text}}})


def lawful():
    """What must be taken."""
    send("a signed read", prepared("GET", "/plugins"))
    query = {"status": "COMPLETE", "odd": "ü &=+%/~", "empty": ""}
    send("a read with odd query parameters", prepared("GET", "/base_images", params=query))
    sha256 = {"signature_method": SIGNATURE_HMAC_SHA256}
    send("a read signed with HMAC-SHA256", prepared("GET", "/plugins", options=sha256))
    form = {"template": TEMPLATE, "parameters": '{"note": "a+b c&d=ü"}'}
    send("a signed form", prepared("POST", "/base_images", data=form))
    plain = prepared("POST", "/base_images", data=order(), headers=JSON)
    made = send("signed JSON without body hash", plain)
    hashed = {"force_include_body": True}
    with_hash = prepared("POST", "/base_images", options=hashed, data=order(), headers=JSON)
    assert b"oauth_body_hash" in as_bytes(with_hash.headers["Authorization"])
    send("signed JSON with body hash", with_hash)
    realm = {"realm": "another realm"}
    send("any realm", prepared("GET", "/plugins", options=realm))
    image = made.json()["base_image"]["id"]
    send("a signed DELETE", prepared("DELETE", "/base_images/" + image))
    RESULTS["open to all"] = [SESSION.get(API, timeout=60).status_code, None]


def unlawful():
    """What must be refused."""
    for case, path in [("read", "/plugins"), ("image", "/base_images"), ("target", "/targets")]:
        answer = SESSION.get(API + path, timeout=60)
        RESULTS["unsigned " + case] = [answer.status_code, answer.headers.get("WWW-Authenticate")]
    answer = SESSION.post(API + "/base_images", data=order(), headers=JSON, timeout=60)
    RESULTS["unsigned write"] = [answer.status_code, answer.headers.get("WWW-Authenticate")]

    once = prepared("POST", "/base_images", data=order("replay"), headers=JSON)
    assert SESSION.send(once, timeout=60).status_code == 202
    send("a replay", once)
    send("an unknown key", prepared("GET", "/plugins", key="nobody"))
    send("a wrong secret", prepared("GET", "/plugins", secret="wrong"))
    send("an empty secret", prepared("GET", "/plugins", secret=""))
    for case, seconds in [("stale", -400), ("future", 400), ("ancient", -10**9)]:
        options = {"timestamp": str(int(time.time()) + seconds)}
        send("a %s timestamp" % case, prepared("GET", "/plugins", options=options))
    for case, text in [("negative", "-1"), ("huge", "9" * 40), ("wordy", "now")]:
        send("a %s timestamp" % case, prepared("GET", "/plugins", options={"timestamp": text}))
    tampered()
    polluted()


def tampered():
    """Signed for one thing, sent as another."""
    request = prepared("GET", "/plugins")
    request.headers["Host"] = "factory.example"
    send("another host", request)
    request = prepared("GET", "/plugins")
    request.url = API + "/base_images"
    send("another path", request)
    request = prepared("GET", "/base_images")
    request.method = "POST"
    send("another method", request)
    request = prepared("POST", "/base_images", data={"template": TEMPLATE})
    request.prepare_body({"template": TEMPLATE + "<!-- more -->"}, None)
    send("another form", request)
    hashed = {"force_include_body": True}
    request = prepared("POST", "/base_images", options=hashed, data=order("aaaa"), headers=JSON)
    request.prepare_body(order("bbbb"), None)
    send("another body than the hash", request)
    request = prepared("GET", "/plugins")
    header = as_bytes(request.headers["Authorization"]).decode()
    request.headers["Authorization"] = header.replace("HMAC-SHA1", "PLAINTEXT")
    send("another signature method", request)
    plain = {"signature_method": "PLAINTEXT"}
    send("the method PLAINTEXT", prepared("GET", "/plugins", options=plain))


def polluted():
    """Parameters that came twice, or from the wrong side."""
    request = prepared("GET", "/base_images")
    request.url += "?status=FAILED"
    send("a query parameter added", request)
    request = prepared("GET", "/base_images", params={"limit": "1"})
    request.url += "&limit=2"
    send("a query parameter doubled", request)
    request = prepared("GET", "/plugins")
    request.url += "?oauth_consumer_key=" + urllib.parse.quote(KEY)
    send("an oauth parameter in the query as well", request)
    request = prepared("GET", "/plugins")
    header = as_bytes(request.headers["Authorization"]).decode()
    request.headers["Authorization"] = header + ', oauth_nonce="again"'
    send("an oauth parameter doubled in the header", request)
    for name in ["oauth_nonce", "oauth_timestamp", "oauth_signature", "oauth_consumer_key"]:
        request = prepared("GET", "/plugins")
        header = as_bytes(request.headers["Authorization"]).decode()
        request.headers["Authorization"] = header.replace(name, "oauth_other")
        send("without " + name, request)
    for case, text in [("empty", "OAuth"), ("basic", "Basic eDp5"), ("broken", 'OAuth a="b')]:
        request = prepared("GET", "/plugins")
        request.headers["Authorization"] = text
        send("an %s header" % case, request)
    request = prepared("POST", "/base_images", data={"template": TEMPLATE})
    form = urllib.parse.urlencode([("template", TEMPLATE), ("template", TEMPLATE)])
    request.prepare_body(form, None)
    send("a form field doubled", request)


def as_bytes(text):
    """requests_oauthlib writes headers as bytes or as text, by its version."""
    return text if isinstance(text, bytes) else text.encode()


# In the query, a signature would stand in logs and histories.
def in_query():
    """A signature in the query instead of the header."""
    options = {"signature_type": SIGNATURE_TYPE_QUERY}
    send("a signature in the query", prepared("GET", "/plugins", options=options))


lawful()
unlawful()
in_query()
print(json.dumps(RESULTS, indent=1))
