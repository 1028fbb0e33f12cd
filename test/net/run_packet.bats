#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The packet hook under waggle run: served by a configuration, through a reload and a restart, and taken out again.
# shellcheck source=test/lib/packet.bash

load ../lib/packet

export TEST_SECONDS=180
export CONFIG=/run/work/waggle.yaml

# written HOOK: a configuration; no hook: without a section for packets.
written() {
	{
		echo "services:"
		echo "  - { name: web, listen: '$(vip 4):$(port nat 80)', scheduler: round-robin, forward: nat,"
		echo "      backends: [ '$(backend 4 1):$(listens nat 80)', '$(backend 4 2):$(listens nat 80)' ] }"
		echo "connect: { cgroups: [ '$CG/out' ] }"
		[ $# = 0 ] || echo "packet: { interfaces: [ { name: l-client, hook: $1 }, { name: l-b1, hook: $1 }, { name: l-b2, hook: $1 } ] }"
	} >"$CONFIG"
}

hook_says() {
	"$WAGGLE" status --json | jq -e "$1" >/dev/null
}

served() {
	network
	backends
	written "$1"
	started
	hook_says "[.hooks[] | select(.name == \"packet\" and .on) | .interfaces[] | select(.hook == \"$1\")] | length == 3"
	both_answer nat 4
	# What is pinned goes on without its daemon, and the next one takes it over.
	kill -KILL "$RUN"
	wait "$RUN" || true
	both_answer nat 4
	started
	both_answer nat 4
	written
	"$WAGGLE" reload
	hook_says '[.hooks[] | select(.name == "packet" and .on)] == []'
	! get --max-time 2 "http://$(vip 4):$(port nat 80)/"
	[ -z "$(find /sys/fs/bpf/waggle -name 'pk_xdp@*' -o -name 'pk_tc@*')" ]
	kill -TERM "$RUN"
	wait "$RUN"
}

@test "waggle run serves packets in TC" { inside served tc; }
@test "waggle run serves packets in XDP" { inside served xdp; }
