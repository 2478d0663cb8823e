#!/bin/sh
# Signs a request by hand (RFC 5849, HMAC-SHA1) with openssl, and sends it with curl.
# Usage: curl_signed.sh METHOD URL KEY SECRET [CURL-ARGUMENT…]   (a URL without query, no form)
# NONCE and TIMESTAMP may come from the environment; HEADER_AGAIN=1 sends the header twice.
# Prints status and WWW-Authenticate.
set -eu
method=$1 url=$2 key=$3 secret=$4
shift 4

encoded() {
    printf %s "$1" | sed 's/%/%25/g; s/:/%3A/g; s,/,%2F,g; s/&/%26/g; s/=/%3D/g; s/+/%2B/g'
}

nonce=${NONCE-$(openssl rand -hex 16)}
timestamp=${TIMESTAMP-$(date +%s)}
parameters="oauth_consumer_key=$(encoded "$key")&oauth_nonce=$nonce"
parameters="$parameters&oauth_signature_method=HMAC-SHA1&oauth_timestamp=$timestamp"
parameters="$parameters&oauth_version=1.0"
base="$method&$(encoded "$url")&$(encoded "$parameters")"
signature=$(printf %s "$base" | openssl dgst -sha1 -hmac "$(encoded "$secret")&" -binary | base64)
header="Authorization: OAuth oauth_consumer_key=\"$(encoded "$key")\", oauth_nonce=\"$nonce\""
header="$header, oauth_signature_method=\"HMAC-SHA1\", oauth_timestamp=\"$timestamp\""
header="$header, oauth_version=\"1.0\", oauth_signature=\"$(encoded "$signature")\""
if [ "${HEADER_AGAIN-}" = 1 ]; then
    set -- --header "$header" "$@"
fi
curl --silent --show-error --insecure --noproxy '*' --output /dev/null --max-time 60 \
    --write-out '%{http_code} %header{www-authenticate}' \
    --request "$method" --header "$header" "$@" "$url"
