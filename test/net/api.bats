#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The control API of `waggle run`, against docs/openapi.yaml and as a client uses it.

load ../lib/net.bash
load ../lib/run.bash

export OPENAPI=$BATS_TEST_DIRNAME/../../docs/openapi.yaml OPENAPI_CHECK=$BATS_TEST_DIRNAME/../tools/api_check.py
export API_FUZZ=$BATS_TEST_DIRNAME/../tools/api_fuzz.py
export SOCKET=/run/waggle/control.sock

# every_answer [MORE]: of every path and method; MORE is added to the configuration.
every_answer() {
	run_addresses
	config <<-EOF
		services:
		  - name: web
		    listen: 198.18.0.5:80
		    health: { http: /health, interval: 1s, timeout: 1s }
		    backends: [ 198.18.0.2:8080, { address: 198.18.0.3:8080, weight: 2 } ]
		  - { name: six, listen: "[2001:2::5]:80", scheduler: maglev, backends: [ "[2001:2::2]:8080" ] }
		  - { name: dns, listen: 198.18.0.5:53, protocol: udp, backends: [ 198.18.0.2:53 ] }
		${1-}
	EOF
	backend_start 198.18.0.2 8080
	run_start
	until_true 15 backend_is web 198.18.0.2:8080 state up
	until_true 15 backend_is web 198.18.0.3:8080 state down
	"$OPENAPI_CHECK" "$OPENAPI" "$SOCKET" web 198.18.0.2:8080
	# It was asked to unload last.
	wait "$RUN"
	[ ! -e /sys/fs/bpf/waggle ]
}

with_accelerator() {
	every_answer "accelerate: { cgroups: [ \"$CG\" ] }"
}

with_packets() {
	every_answer "packet: { interfaces: [ { name: lo, hook: tc } ] }"
}

# A backend that is an IPv6 address is named with its brackets, in whatever way the client escapes them.
brackets() {
	run_addresses
	echo 'services: [ { name: six, listen: "[2001:2::5]:80", backends: [ "[2001:2::2]:8080" ] } ]' | config
	run_start
	[ "$(api "/v1/services/six/backends/%5B2001:2::2%5D:8080/drain" '{}' | jq -r .state)" = draining ]
	[ "$("$WAGGLE" enable six '[2001:2::2]:8080')" = "[2001:2::2]:8080: up" ]
	[ "$("$WAGGLE" enable six '[2001:02:0::2]:8080')" = "[2001:2::2]:8080: up" ]
	run_stop
}

# A client that sends half a request, or too many clients, do not keep others from being served.
bad_clients() {
	echo 'services: []' | config
	run_start
	python3 -c '
import socket, time
held = []
for i in range(40):
    s = socket.socket(socket.AF_UNIX)
    s.connect("/run/waggle/control.sock")
    s.send(b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    held.append(s)
print("held", flush=True)
time.sleep(60)' >"$WORK/held" &
	until_true 20 grep -q held "$WORK/held"
	[ "$(api /v1/services | jq -c .)" = '{"services":[]}' ]
	[ "$(api /v1/reload '{}' | jq -c .services)" = '{"added":0,"removed":0,"changed":0}' ]
	run_stop
}

# Whatever is wrong with a request, it is answered by a reason, and nothing comes of it.
bad_requests() {
	run_addresses
	echo 'services: [ { name: web, listen: "198.18.0.5:80", backends: [ "198.18.0.2:8080" ] } ]' | config
	run_start
	"$API_FUZZ" "$SOCKET" web 198.18.0.2:8080 400
	run_stop
}

# Nobody but root and the group waggle may open it.
whose_socket() {
	echo 'services: []' | config
	run_start
	[[ $(stat -c %a "$SOCKET") == 6[06]0 ]]
	[ "$(stat -c %U "$SOCKET")" = root ]
	! setpriv --reuid 65534 --regid 65534 --clear-groups "$WAGGLE" status >"$WORK/out" 2>&1
	grep -q "not permitted to open '$SOCKET'" "$WORK/out"
	run_stop
}

# The accelerator alone has no services, and says so.
accelerator_alone() {
	accel_start
	[ "$(curl -s -o "$WORK/answer" -w '%{http_code}' --unix-socket "$SOCKET" http://waggle/v1/services)" = 409 ]
	jq -e '.error | test("waggle run -c FILE")' "$WORK/answer"
	[ "$(curl -s -o "$WORK/answer" -w '%{http_code}' --unix-socket "$SOCKET" -X POST http://waggle/v1/reload)" = 409 ]
	"$WAGGLE" status | grep -q '^accelerator: '
	accel_stop
}

@test "api: every path, method, answer and refusal is as docs/openapi.yaml says" { inside every_answer; }
@test "api: the same with the accelerator on" { inside with_accelerator; }
@test "api: the same with the packet hook on" { inside with_packets; }
@test "api: IPv6 backends are named with brackets" { inside brackets; }
@test "api: bad clients do not keep others from being served" { inside bad_clients; }
@test "api: bad requests get a reason, and change nothing" { inside bad_requests; }
@test "api: the socket is root's and the group's" { inside whose_socket; }
@test "api: the accelerator alone has no services, and says so" { inside accelerator_alone; }
