#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Health checks of `waggle run`: who is found down and up again, by what, and what becomes of connections then.

load ../lib/net.bash
load ../lib/run.bash

# web HEALTH MORE BACKEND...: a service that is checked.
web() {
	{
		printf 'services:\n  - name: web\n    listen: 198.18.0.5:80\n    health: { %s }\n    %s\n    backends:\n' "$1" "$2"
		printf '      - %s\n' "${@:3}"
	} | config
}

export FAST='interval: 1s, timeout: 1s, jitter: 50ms, rise: 1, fall: 2'
export NO_MORE='scheduler: round-robin'

two_backends() {
	run_addresses
	backend_start 198.18.0.2 8080
	FIRST=$BACKEND
	backend_start 198.18.0.3 8080
}

# Answers, but not as it should.
http_status() {
	two_backends
	web "http: /health, $FAST" "$NO_MORE" 198.18.0.2:8080 198.18.0.3:8080
	run_start
	until_true 15 backend_is web 198.18.0.2:8080 state up
	until_true 15 backend_is web 198.18.0.3:8080 state up
	kill -USR1 "$FIRST"
	until_true 15 backend_is web 198.18.0.2:8080 state down
	backend_is web 198.18.0.2:8080 check.error 'status 503, expected 200 to 399'
	[ "$(who http://198.18.0.5/ 6)" = "6 198.18.0.3" ]
	[ "$(api /v1/services/web | jq -r .state)" = degraded ]
	kill -USR1 "$FIRST"
	until_true 15 backend_is web 198.18.0.2:8080 state up
	[ "$(who http://198.18.0.5/ 6)" = $'3 198.18.0.2\n3 198.18.0.3' ]
	grep -q "backend 198.18.0.2:8080 is down: 2 checks failed: status 503" "$WORK/run.err"
	run_stop
}

http_body() {
	two_backends
	web "http: /health, body: \"198.18.0.2\", $FAST" "$NO_MORE" 198.18.0.2:8080 198.18.0.3:8080
	run_start
	until_true 15 backend_is web 198.18.0.2:8080 state up
	until_true 15 backend_is web 198.18.0.3:8080 state down
	backend_is web 198.18.0.3:8080 check.error "the answer does not contain '198.18.0.2'"
	run_stop
}

# With a certificate of nobody's: verified only where that is asked for.
https() {
	two_backends
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=web.test -keyout "$WORK/key" -out "$WORK/cert" 2>/dev/null
	openssl s_server -accept 198.18.0.4:8443 -key "$WORK/key" -cert "$WORK/cert" -www -quiet >/dev/null 2>&1 &
	until_true 15 answers 198.18.0.4 8443
	web "https: /, host: web.test, $FAST" "$NO_MORE" 198.18.0.4:8443
	run_start
	until_true 15 backend_is web 198.18.0.4:8443 state up
	web "https: /, host: web.test, verify: true, $FAST" "$NO_MORE" 198.18.0.4:8443
	"$WAGGLE" reload
	until_true 15 backend_is web 198.18.0.4:8443 state down
	backend_field web 198.18.0.4:8443 check.error | grep -qi certificate
	run_stop
}

# Nobody listens; then someone does, on the port of the checks too.
tcp() {
	run_addresses
	web "tcp: true, port: 9000, $FAST" "$NO_MORE" 198.18.0.2:8080
	run_start
	until_true 15 backend_is web 198.18.0.2:8080 state down
	backend_is web 198.18.0.2:8080 check.error 'Connection refused'
	backend_start 198.18.0.2 8080
	until_true 15 backend_is web 198.18.0.2:8080 check.error 'Connection refused'
	backend_is web 198.18.0.2:8080 state down
	backend_start 198.18.0.2 9000
	until_true 15 backend_is web 198.18.0.2:8080 state up
	[ "$(who http://198.18.0.5/)" = "1 198.18.0.2" ]
	# Its end of each check was a reset: nothing is left waiting.
	[ "$(ss -Htn state time-wait | wc -l)" -le 4 ]
	run_stop
}

# A host that is not there does not answer at all.
no_answer() {
	run_addresses
	netns_new far
	ip link add near type veth peer name far netns far
	ip address add 198.18.2.1/24 dev near
	ip link set near up
	ip -n far address add 198.18.2.2/24 dev far
	ip -n far link set far up
	ip netns exec far "$TOOLS/httpd" 198.18.2.2 8080 far &
	ip netns exec far nft -f - <<-NFT
		table inet t { chain c { type filter hook input priority 0; tcp dport 8080 drop; }; }
	NFT
	web "tcp: true, interval: 200ms, timeout: 200ms, jitter: 0ms, fall: 1, rise: 1" "$NO_MORE" 198.18.2.2:8080
	run_start
	until_true 15 backend_is web 198.18.2.2:8080 state down
	backend_is web 198.18.2.2:8080 check.error 'no answer in time'
	ip netns exec far nft flush ruleset
	until_true 15 backend_is web 198.18.2.2:8080 state up
	run_stop
}

all_down_is_refused() {
	local status=0

	run_addresses
	web "tcp: true, $FAST" "$NO_MORE" 198.18.0.2:8080 198.18.0.3:8080
	run_start
	until_true 15 eval '[ "$(api /v1/services/web | jq -r .state)" = down ]'
	curl -s --max-time 10 http://198.18.0.5/ || status=$?
	# CURLE_COULDNT_CONNECT, not a timeout.
	((status == 7))
	api /v1/status | jq -e '.balancing.counters["no-backend"] > 0'
	run_stop
}

# The checks are wrong, as everybody is said to be down: nobody is refused.
all_down_panics() {
	two_backends
	web "tcp: true, port: 9000, $FAST" "panic: true" 198.18.0.2:8080 198.18.0.3:8080
	run_start
	until_true 15 eval '[ "$(api /v1/services/web | jq -r .state)" = panic ]'
	[ "$(who http://198.18.0.5/ 6)" = $'3 198.18.0.2\n3 198.18.0.3' ]
	run_stop
}

# The weight rises step by step, and never falls.
slow_start() {
	local now before=0 steps=0

	two_backends
	web "http: /, $FAST" "slow-start: 4s" 198.18.0.2:8080 198.18.0.3:8080
	run_start
	until_true 15 backend_is web 198.18.0.2:8080 state up
	kill -USR1 "$FIRST"
	until_true 15 backend_is web 198.18.0.2:8080 state down
	backend_is web 198.18.0.2:8080 effective_weight 0
	kill -USR1 "$FIRST"
	until_true 15 backend_is web 198.18.0.2:8080 state up
	for ((tries = 600; tries > 0; tries--)); do
		now=$(backend_field web 198.18.0.2:8080 effective_weight)
		jq -ne "$now >= $before and $now >= 0.1 and $now <= 1"
		jq -ne "$now > $before and $now < 1" >/dev/null && steps=$((steps + 1))
		before=$now
		jq -ne "$now == 1" >/dev/null && break
		sleep 0.05
	done >/dev/null
	((tries > 0 && steps >= 1))
	[ "$(who http://198.18.0.5/ 6)" = $'3 198.18.0.2\n3 198.18.0.3' ]
	run_stop
}

# Without a check: whoever is refused is the last one for a while.
passive_alone() {
	two_backends
	{
		printf 'services: [ { name: web, listen: 198.18.0.5:80, scheduler: round-robin, '
		printf 'passive: 60s, backends: [ 198.18.0.2:8080, 198.18.0.3:8080 ] } ]\n'
	} | config
	run_start
	kill -KILL "$FIRST"
	! wait "$FIRST"
	who http://198.18.0.5/ 2 >/dev/null 2>&1
	[ "$(who http://198.18.0.5/ 20)" = "20 198.18.0.3" ]
	backend_is web 198.18.0.2:8080 failures 1
	run_stop
}

# With one: it is asked at once, however long its interval, and believed.
passive_asks_the_check() {
	local i

	two_backends
	web "tcp: true, interval: 1h, timeout: 1s, jitter: 0ms, rise: 1, fall: 1" "$NO_MORE" 198.18.0.2:8080 198.18.0.3:8080
	run_start
	until_true 15 backend_is web 198.18.0.2:8080 state up
	kill -KILL "$FIRST"
	! wait "$FIRST"
	for ((i = 0; i < 2; i++)); do
		curl -s --max-time 10 http://198.18.0.5/ || true
	done
	until_true 15 backend_is web 198.18.0.2:8080 state down
	run_stop
}

# Services may stand one behind the other: a check reaches the address it is meant for, not who serves it.
checks_are_not_balanced() {
	two_backends
	{
		printf 'services:\n'
		printf '  - { name: front, listen: 198.18.0.4:8080, backends: [ 198.18.0.3:8080 ] }\n'
		printf '  - { name: web, listen: 198.18.0.5:80, health: { %s }, backends: [ 198.18.0.4:8080 ] }\n' "tcp: true, $FAST"
		printf '  - { name: api, listen: 198.18.0.6:80, health: { %s }, backends: [ 198.18.0.4:8080 ] }\n' "http: /, $FAST"
	} | config
	run_start
	[ "$(who http://198.18.0.4:8080/)" = "1 198.18.0.3" ]
	until_true 15 backend_is web 198.18.0.4:8080 state down
	until_true 15 backend_is api 198.18.0.4:8080 state down
	backend_is front 198.18.0.3:8080 picks 1
	backend_start 198.18.0.4 8080
	until_true 15 backend_is web 198.18.0.4:8080 state up
	until_true 15 backend_is api 198.18.0.4:8080 state up
	backend_is front 198.18.0.3:8080 connections 0
	run_stop
}

# Who was down is so for the next process, before it has checked anything.
down_survives_a_restart() {
	two_backends
	kill -KILL "$FIRST"
	! wait "$FIRST"
	web "tcp: true, $FAST" "$NO_MORE" 198.18.0.2:8080 198.18.0.3:8080
	run_start
	until_true 15 backend_is web 198.18.0.2:8080 state down
	run_stop
	web "tcp: true, interval: 1h, timeout: 1s, jitter: 0ms" "$NO_MORE" 198.18.0.2:8080 198.18.0.3:8080
	[ "$(who http://198.18.0.5/ 4)" = "4 198.18.0.3" ]
	run_start
	backend_is web 198.18.0.2:8080 state down
	[ "$(who http://198.18.0.5/ 4)" = "4 198.18.0.3" ]
	run_stop
}

# Twenty backends that are checked from the same moment on: the time between two checks of one is anything from half a second
# to one and a half, and so they are out of step at once.
jitter() {
	run_addresses
	python3 -c '
import selectors, socket, time
ready = selectors.DefaultSelector()
for port in range(9000, 9020):
    s = socket.create_server(("198.18.0.2", port))
    ready.register(s, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in ready.select():
        key.fileobj.accept()[0].close()
        print(key.fileobj.getsockname()[1], time.monotonic(), flush=True)' >"$WORK/checks" &
	until_true 10 grep -q ready "$WORK/checks"
	# shellcheck disable=SC2046 # a word a backend
	web "tcp: true, interval: 1s, timeout: 1s, jitter: 500ms" "$NO_MORE" $(printf '198.18.0.2:%d\n' {9000..9019})
	run_start
	until_true 30 eval '(($(wc -l <"$WORK/checks") > 100))'
	awk 'NF == 2 {
		gap = $2 - last[$1]
		if (last[$1] && (!n++ || gap < least)) least = gap
		if (last[$1] && gap > most) most = gap
		last[$1] = $2
	} END { print least, most; exit !(n >= 60 && most - least > 0.2) }' "$WORK/checks"
	run_stop
}

# All are found out about; what that costs is only told.
a_thousand() {
	local i before after

	run_addresses
	backend_start 198.18.0.2 8080
	{
		printf 'services:\n'
		for ((i = 0; i < 10; i++)); do
			printf '  - name: s%d\n    listen: 198.18.1.%d:80\n    health: { %s }\n    backends:\n' "$i" "$i" \
				"$( ((i % 2)) && echo "tcp: true" || echo "http: /"), port: 8080, interval: 1s, timeout: 1s"
			printf '      - 198.18.0.2:%d\n' $(seq $((1000 + 100 * i)) $((1099 + 100 * i)))
		done
	} | config
	run_start
	until_true 30 eval '[ "$(api /v1/status | jq .balancing.states.up)" = 1000 ]'
	before=$(awk '{ print $14 + $15 }' "/proc/$RUN/stat")
	sleep 3
	after=$(awk '{ print $14 + $15 }' "/proc/$RUN/stat")
	echo "# 1000 checks a second, half of them HTTP: $(((after - before) * 1000 / $(getconf CLK_TCK) / 3)) ms of processor time a second" >&3
	api /v1/status | jq -e '.balancing.states.up == 1000'
	run_stop
}

@test "health: HTTP status" { inside http_status; }
@test "health: HTTP body" { inside http_body; }
@test "health: HTTPS, with and without its certificate" { inside https; }
@test "health: TCP, on a port of its own" { inside tcp; }
@test "health: who does not answer" { inside no_answer; }
@test "health: all down is refused at once" { inside all_down_is_refused; }
@test "health: all down panics, if that is wanted" { inside all_down_panics; }
@test "health: slow start ramps up" { inside slow_start; }
@test "health: passive, without a check" { inside passive_alone; }
@test "health: passive asks the check" { inside passive_asks_the_check; }
@test "health: checks are not balanced" { inside checks_are_not_balanced; }
@test "health: who was down is so after a restart" { inside down_survives_a_restart; }
@test "health: jitter keeps checks out of step" { inside jitter; }
@test "health: a thousand backends" { inside a_thousand; }
