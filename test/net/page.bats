#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The status page of `waggle run`, in a headless Chromium; and what else its address serves. Pictures of it are left in
# the build directory: screenshots/.

load ../lib/net.bash
load ../lib/run.bash

export AT=127.0.0.1:9469
export PAGE_CHECK=$BATS_TEST_DIRNAME/../tools/page_check.py SHOTS=$TOOLS/../../screenshots
export TEST_SECONDS=180

get() {
	curl -sS --max-time 20 "$@"
}

lives() {
	run_addresses
	backend_start 198.18.0.3 8080
	backend_start 198.18.0.4 8080
	backend_start 198.18.0.2 8080
	config <<-EOF
		services:
		  - name: web
		    listen: 198.18.0.5:80
		    scheduler: round-robin
		    health: { http: /, interval: 1s, timeout: 1s, fall: 2 }
		    backends: [ 198.18.0.2:8080, { address: 198.18.0.3:8080, weight: 2 } ]
		  - name: api
		    listen: 198.18.0.6:80
		    health: { tcp: true, interval: 1s, timeout: 1s }
		    backends: [ 198.18.0.3:8080, 198.18.0.4:8080 ]
		  - { name: dns, listen: 198.18.0.5:53, protocol: udp, backends: [ 198.18.0.2:53 ] }
		metrics: { listen: "$AT" }
		accelerate: { cgroups: [ "$CG" ] }
	EOF
	run_start
	until_true 20 backend_is web 198.18.0.3:8080 state up
	# A request at a time, so that it goes on to the end without much work.
	(while sleep 0.05; do
		curl -s -o /dev/null --max-time 5 http://198.18.0.5/
		curl -s -o /dev/null --max-time 5 http://198.18.0.6/
	done) &
	"$PAGE_CHECK" "http://$AT" "$SHOTS" live "$BACKEND" web 198.18.0.2:8080 >&2
	wait "$RUN"
}

many() {
	run_addresses
	{
		printf 'services:\n'
		big_service
	} | config "metrics: { listen: '$AT' }"
	run_start
	"$PAGE_CHECK" "http://$AT" "$SHOTS" many 1000 >&2
	run_stop
}

# What a browser is told of what it may do, and who may ask.
is_closed() {
	local path

	echo 'services: [ { name: web, listen: 198.18.0.5:80, backends: [ 198.18.0.2:8080 ] } ]' | config "metrics: { listen: '$AT' }"
	run_start
	for path in / /page.js /v1/status /v1/services; do
		get -D "$WORK/head" -o "$WORK/body" "http://$AT$path"
		grep -q '^HTTP/1.1 200' "$WORK/head"
		grep -qi "^Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self';" "$WORK/head"
		grep -qi '^X-Content-Type-Options: nosniff' "$WORK/head"
		! grep -qi '^Access-Control-Allow' "$WORK/head"
	done
	! grep -E '<script[^>]*>[^<]|<style|style=|on[a-z]+=|https?://' "$WORK/body" src/daemon/page/index.html 2>/dev/null
	get "http://$AT/" | grep -q '<title>waggle</title>'
	# The same again costs nothing.
	get -D "$WORK/head" -o /dev/null "http://$AT/page.js"
	get -D "$WORK/head" -o /dev/null -H "If-None-Match: $(tr -d '\r' <"$WORK/head" | sed -n 's/^ETag: //Ip')" "http://$AT/page.js"
	grep -q '^HTTP/1.1 304' "$WORK/head"
	# A name that somebody gave to this address is not this machine.
	[ "$(get -o /dev/null -w '%{http_code}' -H 'Host: evil.example' "http://$AT/v1/status")" = 421 ]
	[ "$(get -o /dev/null -w '%{http_code}' -H 'Host: 127.0.0.1.evil.example:9469' "http://$AT/")" = 421 ]
	[ "$(get -o /dev/null -w '%{http_code}' -H 'Host: localhost:9469' "http://$AT/v1/status")" = 200 ]
	[ "$(get -o /dev/null -w '%{http_code}' -H 'Host: waggle.example' "http://$AT/metrics")" = 200 ]
	for path in /v1/sockets /v1/events /v1/reload /v1/services/web/backends/198.18.0.2:8080/drain /v1/services/nobody/history; do
		[ "$(get -o /dev/null -w '%{http_code}' "http://$AT$path")" = 404 ]
		[ "$(get -o /dev/null -w '%{http_code}' -X POST "http://$AT$path")" = 405 ]
	done
	backend_is web 198.18.0.2:8080 state up
	# What the control socket tells is what is told here.
	[ "$(get "http://$AT/v1/services" | jq -cS '.services[].backends[].address')" = "$(api /v1/services | jq -cS '.services[].backends[].address')" ]
	[ "$(get "http://$AT/v1/events/recent" | jq -c .)" = "$(api /v1/events/recent | jq -c .)" ]
	until_true 20 eval '[ "$(get "http://$AT/v1/services/web/history" | jq ".picks_per_second | length")" -gt 1 ]'
	run_stop
}

@test "page: it is live, is used by keyboard, has names for all, and no complaint" { inside lives; }
@test "page: 1000 backends" { inside many; }
@test "page: nothing from elsewhere, for nobody elsewhere, and nothing can be changed" { inside is_closed; }
