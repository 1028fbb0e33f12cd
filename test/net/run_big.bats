#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# `waggle run` with ten thousand services and a hundred thousand backends: what changes all of them disturbs nobody.

load ../lib/net.bash
load ../lib/run.bash

# big WEIGHT: ten thousand services of ten backends; the first of each has this weight. And one that is asked.
big() {
	{
		printf 'services:\n  - { name: web, listen: 198.18.0.5:80, backends: [ 198.18.0.2:8080 ] }\n'
		awk -v weight="$1" 'BEGIN {
			for (i = 0; i < 10000; i++) {
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
	api /v1/status | jq -e '.balancing.states.up == 100001' >/dev/null
	load_start http://198.18.0.5/ 5 5 -H 'Connection: close'
	big 3
	before=$(milliseconds)
	"$WAGGLE" reload >"$WORK/reload"
	echo "# a reload that changes 10000 services of 10 backends: $(($(milliseconds) - before)) ms" >&3
	grep -q '^services: 0 added, 0 removed, 10000 changed' "$WORK/reload"
	load_end
	echo "# $REQUESTS requests, $ERRORS errors" >&3
	((ERRORS == 0))
	backend_is s9999 10.1.134.150:80 weight 3
	run_stop
}

@test "run: a reload that changes ten thousand services fails no connect" { inside many_services; }
