# SPDX-License-Identifier: GPL-2.0-or-later
# A balancing daemon for network tests, in the place that net.bash makes: backends that say who they are, and waggle run.
# shellcheck shell=bash

export CONFIG=/run/work/waggle.yaml

# config [SECTION...]: the configuration from stdin. Only the test's own processes are balanced: the hook sees every network
# namespace. Whoever says what is to be seen, by a section of his own, is not added to.
config() {
	local text

	text=$(cat; printf '%s\n' "$@")
	if [[ $text != *connect:* ]]; then
		text+=$'\n'"connect: { cgroups: [ \"$CG\" ] }"
	fi
	printf '%s\n' "$text" >"$CONFIG"
}

# Addresses of the backends and services: in the test's own namespace, on lo.
run_addresses() {
	local a
	for a in 198.18.0.2 198.18.0.3 198.18.0.4; do
		ip address add "$a/32" dev lo
	done
	for a in 2001:2::2 2001:2::3; do
		ip address add "$a/128" dev lo nodad
	done
}

# backend_start ADDRESS PORT [NAME]: an HTTP server that says its name; also for /health. Its pid is in BACKEND.
backend_start() {
	local address=$1 port=$2 name=${3:-$1}

	"$TOOLS/httpd" "$address" "$port" "$name" &
	BACKEND=$!
	until_true 10 answers "$address" "$port"
}

answers() {
	(exec 3<>"/dev/tcp/$1/$2") 2>/dev/null
}

# Starts the daemon on $CONFIG and waits until it is ready. Sets RUN.
run_start() {
	local tries=1000

	: >"$WORK/run.out"
	(
		echo "$BASHPID" >"$CG/ctl/cgroup.procs"
		exec "$WAGGLE" run -c "$CONFIG"
	) >"$WORK/run.out" 2>>"$WORK/run.err" &
	RUN=$!
	until grep -qx ready "$WORK/run.out"; do
		if ((tries-- == 0)) || ! kill -0 "$RUN" 2>/dev/null; then
			echo "waggle run did not come up: $(cat "$WORK/run.err")" >&2
			return 1
		fi
		sleep 0.02
	done
}

# Ends it by SIGTERM; it must end in good order.
run_stop() {
	kill -TERM "$RUN"
	if ! wait "$RUN"; then
		echo "waggle run ended with an error: $(cat "$WORK/run.err")" >&2
		return 1
	fi
}

# api PATH [BODY]: GET, or POST with a body.
api() {
	curl -sS --max-time 30 --unix-socket /run/waggle/control.sock ${2+--json "$2"} "http://waggle$1"
}

# backend_field SERVICE ADDRESS FIELD
backend_field() {
	api "/v1/services/$1" | jq -r --arg a "$2" ".backends[] | select(.address == \$a) | .$3"
}

# backend_is SERVICE ADDRESS FIELD VALUE
backend_is() {
	local now
	now=$(backend_field "$1" "$2" "$3")
	if [ "$now" != "$4" ]; then
		echo "$3 of $2 is '$now', not '$4'" >&2
		return 1
	fi
}

# who URL [N]: how often each backend answered N requests on connections of their own: "COUNT NAME" a line.
who() {
	local i
	for ((i = 0; i < ${2:-1}; i++)); do
		curl -sS --max-time 10 "$1" || echo failed
	done | sort | uniq -c | awk '{ print $1, $2 }'
}

# two_services CGROUP: web and api, on two backends, and what the cgroup's programs say to each other is joined.
two_services() {
	run_addresses
	backend_start 198.18.0.2 8080
	backend_start 198.18.0.3 8080
	config "accelerate: { cgroups: [ \"$1\" ] }" <<-EOF
		services:
		  - { name: web, listen: "198.18.0.5:80", scheduler: round-robin, backends: [ "198.18.0.2:8080", "198.18.0.3:8080" ] }
		  - { name: api, listen: "198.18.0.6:80", backends: [ "198.18.0.3:8080" ] }
	EOF
	run_start
}

# A service of a thousand backends, as an item of a list of services.
big_service() {
	local i

	printf '  - name: big\n    listen: 198.18.0.6:80\n    backends:\n'
	for ((i = 0; i < 1000; i++)); do
		printf '      - 198.18.%d.%d:81\n' $((i / 250 + 1)) $((i % 250 + 1))
	done
}
