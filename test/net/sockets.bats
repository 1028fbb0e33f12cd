#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# What `waggle sockets` tells of live connections.

load ../lib/net.bash

# A program that asks and answers until it is told to end; its pid is in TALK.
talk_start() {
	mkfifo "$WORK/end"
	"$1" requests 1 <"$WORK/end" &
	TALK=$!
	exec 9>"$WORK/end"
}

talk_end() {
	echo >&9
	exec 9>&-
	wait "$TALK"
}

# The fields of the document and their types, as docs/openapi.yaml says.
has_shape() {
	"$WAGGLE" sockets --json >"$WORK/sockets"
	jq -e '(.summary | .pairs == 1 and .singles == 0 and .joined + .watched == .pairs)
		and (.pairs | length == 1) and .singles == []
		and (.pairs[0] | .state == "joined" or .state == "watched")
		and ([.pairs[0].client, .pairs[0].server] | all(.[];
			(.local | test("^127.0.0.1:[0-9]+$")) and (.remote | test("^127.0.0.1:[0-9]+$"))
			and .family == "ipv4" and .process == $process and .pid == $pid and (.cgroup | endswith("/scope"))
			and (.netns | type == "number") and .tcp_state == "established"
			and ([.joined_bytes, .tcp_bytes, .joined_sends, .tcp_sends, .fallbacks, .queued_bytes, .cookie]
				| all(.[]; type == "number" and . >= 0))))
		and .pairs[0].client.role == "client" and .pairs[0].server.role == "server"
		and .pairs[0].client.local == .pairs[0].server.remote' --arg process uses --argjson pid "$TALK" "$WORK/sockets"
}

joined_pair() {
	accel_start --trust "$TOOLS/uses"
	talk_start "$TOOLS/uses"
	until_true 10 has_shape
	sleep 0.2
	has_shape
	jq -e '.pairs[0] | .state == "joined" and .reason == null and .text == null
		and ([.client, .server] | all(.[]; .mode == "joined" and .joined_bytes > 0 and .joined_sends > 0))' "$WORK/sockets"
	"$WAGGLE" sockets >"$WORK/table"
	grep -q '^MODE .*WHY$' "$WORK/table"
	(($(grep -c '^joined ' "$WORK/table") == 2))
	[ "$(tail -n 1 "$WORK/table")" = "1 pair: 1 joined, 0 on TCP" ]
	talk_end
	accel_stop
}

# Of what is not joined it tells the reason, and what TCP has sent.
pair_on_tcp() {
	accel_start --trust "$TOOLS/uses" --port 9
	talk_start "$TOOLS/uses"
	until_true 10 has_shape
	sleep 0.2
	has_shape
	jq -e '.pairs[0] | .state == "watched" and .reason == "port" and (.text | type == "string")
		and ([.client, .server] | all(.[]; .mode == "tcp" and .joined_bytes == 0 and .tcp_bytes > 0))' "$WORK/sockets"
	"$WAGGLE" sockets >"$WORK/table"
	grep -q '^tcp .*port: ' "$WORK/table"
	[ "$(tail -n 1 "$WORK/table")" = "1 pair: 0 joined, 1 on TCP" ]
	talk_end
	accel_stop
}

nothing() {
	accel_start
	"$WAGGLE" sockets --json | jq -e '. == {summary: {pairs: 0, joined: 0, watched: 0, singles: 0}, pairs: [], singles: []}'
	[ "$("$WAGGLE" sockets)" = "0 pairs: 0 joined, 0 on TCP" ]
	accel_stop
}

@test "sockets: a joined pair, as JSON and as a table" { inside joined_pair; }
@test "sockets: a pair on TCP, and why" { inside pair_on_tcp; }
@test "sockets: nothing to show" { inside nothing; }
