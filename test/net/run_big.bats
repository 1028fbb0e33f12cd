#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# `waggle run` with thousands of services of ten backends each: what changes all of them disturbs nobody.
# SERVICES=10000 is what docs/benchmarks.md tells of; with sanitizers, on a busy machine, that takes long to begin with.

load ../lib/net.bash
load ../lib/run.bash

export SERVICES=${SERVICES:-2000}

# big WEIGHT: services of ten backends; the first of each has this weight. And one that is asked.
big() {
	{
		printf 'services:\n  - { name: web, listen: 198.18.0.5:80, backends: [ 198.18.0.2:8080 ] }\n'
		awk -v weight="$1" -v n_services="$SERVICES" 'BEGIN {
			for (i = 0; i < n_services; i++) {
				printf "  - name: s%d\n    listen: 198.19.%d.%d:80\n    scheduler: round-robin\n    backends:\n", i, i / 256, i % 256
				for (k = 0; k < 10; k++) {
					n = i * 10 + k
					address = sprintf("10.%d.%d.%d:80", n / 65536, n / 256 % 256, n % 256)
					printf k ? "      - %s\n" : "      - { address: \"%s\", weight: " weight " }\n", address
				}
			}
		}'
	} | config
}

milliseconds() {
	local t=${EPOCHREALTIME/[.,]/}

	echo "$((t / 1000))"
}

many_services() {
	local before

	run_addresses
	backend_start 198.18.0.2 8080
	big 2
	run_start
	api /v1/status | jq -e '.balancing.states.up == '$((SERVICES * 10 + 1)) >/dev/null
	load_start http://198.18.0.5/ 5 5 -H 'Connection: close'
	big 3
	before=$(milliseconds)
	"$WAGGLE" reload >"$WORK/reload"
	echo "# a reload that changes $SERVICES services of 10 backends: $(($(milliseconds) - before)) ms" >&3
	grep -q "^services: 0 added, 0 removed, $SERVICES changed" "$WORK/reload"
	load_end
	echo "# $REQUESTS requests, $ERRORS errors" >&3
	((ERRORS == 0))
	backend_is s1999 10.0.78.22:80 weight 3
	run_stop
}

@test "run: a reload that changes thousands of services fails no connect" { inside many_services; }
