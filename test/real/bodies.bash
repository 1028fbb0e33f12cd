# SPDX-License-Identifier: GPL-2.0-or-later
# Bodies of many sizes, and HTTP clients that carry them both ways.
# shellcheck shell=bash

# Bodies of all kinds of length (BODY_SIZES) in $BODIES, from nothing to 64 MiB.
make_bodies() {
	local size

	BODY_SIZES='0 1 2 1459 1461 4096 8191 16384 65535 65536 65537 262145 1048577 8388609 67108864'
	BODIES=$WORK/bodies
	[ ! -d "$BODIES" ] || return 0
	mkdir -p "$BODIES"
	for size in $BODY_SIZES; do
		head -c "$size" /dev/urandom >"$BODIES/$size"
	done
	chmod -R a+rX "$WORK"
}

# same FILE SIZE: is it that body? Says the sum, too, so that it is compared once more.
same() {
	cmp "$1" "$BODIES/$2"
	result "$2 $(sums "$1")"
}

# A key and a certificate for 127.0.0.1.
make_cert() {
	[ ! -e "$WORK/cert.pem" ] || return 0
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext 'subjectAltName=IP:127.0.0.1,DNS:localhost' \
		-keyout "$WORK/key.pem" -out "$WORK/cert.pem" 2>/dev/null
	cat "$WORK/cert.pem" "$WORK/key.pem" >"$WORK/both.pem"
}

fetch() {
	curl -sS --fail --max-time 60 --cacert "$WORK/cert.pem" "$@"
}

# downloads NAME URL [OPTION...]: every body over one connection; then each over one of its own.
downloads() {
	local url=$2 size said args=() got=$WORK/got

	rm -rf "$got"
	mkdir "$got"
	for size in $BODY_SIZES; do
		args+=("$url/$size" -o "$got/$size")
	done
	said=$(fetch "${@:3}" -w '%{http_code} %{size_download} %{num_connects};' "${args[@]}")
	result "$1: $said"
	for size in $BODY_SIZES; do
		same "$got/$size" "$size"
		fetch "${@:3}" "$url/$size" -o "$got/$size"
		same "$got/$size" "$size"
	done
}

# uploads NAME URL [OPTION...]: every body over one connection. This curl never ends a chunked one of nothing.
uploads() {
	local url=$2 size said sizes=$BODY_SIZES args=()

	[[ ${*:3} != *chunked* ]] || sizes=${sizes#0 }

	rm -rf "$WORK/put"
	mkdir "$WORK/put"
	for size in $sizes; do
		args+=(-T "$BODIES/$size" "$url/put/$size")
	done
	said=$(fetch "${@:3}" -w '%{http_code} %{size_upload} %{num_connects};' "${args[@]}")
	result "$1: $said"
	for size in $sizes; do
		same "$WORK/put/$size" "$size"
	done
}

# wrk PORT CONNECTIONS [OPTION...]: no request may fail.
load_by_wrk() {
	wrk -t2 -c"$2" -d2s "${@:3}" "http://127.0.0.1:$1/small" >"$WORK/wrk"
	if grep -E 'Socket errors|Non-2xx' "$WORK/wrk" >&2; then
		return 1
	fi
	result "wrk $1 $2: $(awk '/requests in/ { print $1 > 0 }' "$WORK/wrk")"
}
