#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Redirects and policies through `waggle run`, with haproxy as a transparent proxy: it reads SO_ORIGINAL_DST, connects there,
# and says in a header what it was told. Clients are in $SCOPE, the proxy and the servers in cgroups of their own.

load ../lib/net.bash
load ../lib/run.bash
load ../lib/redirect.bash

export FAR_SYN=$BATS_TEST_DIRNAME/../tools/far_syn.py

told_the_destination() {
	servers
	haproxy_start 15001
	redirect
	run_start
	until_true 10 proxy_is_up
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by 198.18.0.2:8080" ]
	[ "$(redirected http://198.18.0.3:8080/)" = "198.18.0.3 by 198.18.0.3:8080" ]
	# curl itself believes to be where it wanted to go.
	[ "$(curl -sS --max-time 10 -o /dev/null -w '%{remote_ip}:%{remote_port}' http://198.18.0.3:8080/)" = 198.18.0.3:8080 ]
	# Others go straight there.
	[ "$(in_group out redirected http://198.18.0.2:8080/)" = "198.18.0.2 by " ]
	"$WAGGLE" status --json | jq -e '.hooks[] | select(.name == "redirect") | .redirects[0].connections >= 4'
	run_stop
}

excluded() {
	servers
	haproxy_start 15001
	redirect 'exclude-cidrs: [ 198.18.0.3/32 ]'
	run_start
	until_true 10 proxy_is_up
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by 198.18.0.2:8080" ]
	[ "$(redirected http://198.18.0.3:8080/)" = "198.18.0.3 by " ]
	redirect 'exclude-ports: [ 8080 ]'
	"$WAGGLE" reload
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by " ]
	# Without redirects the hook is gone.
	config </dev/null
	"$WAGGLE" reload
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by " ]
	"$WAGGLE" status --json | jq -e '.hooks[] | select(.name == "redirect") | .on == false'
	redirect
	"$WAGGLE" reload
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by 198.18.0.2:8080" ]
	run_stop
}

# The redirect outlives waggle, however that ends, and the next one takes it over.
outlives() {
	servers
	haproxy_start 15001
	redirect
	run_start
	until_true 10 proxy_is_up
	run_stop
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by 198.18.0.2:8080" ]
	run_start
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by 198.18.0.2:8080" ]
	kill -KILL "$RUN"
	wait "$RUN" || true
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by 198.18.0.2:8080" ]
	redirect 'exclude-cidrs: [ 198.18.0.3/32 ]'
	run_start
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by 198.18.0.2:8080" ]
	[ "$(redirected http://198.18.0.3:8080/)" = "198.18.0.3 by " ]
	# What others have left on this machine is not ours to wait for.
	"$WAGGLE" unload || true
	wait "$RUN"
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by " ]
}

fails_as_told() {
	servers
	redirect
	run_start
	is_refused http://198.18.0.2:8080/
	redirect 'fail: open'
	"$WAGGLE" reload
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by " ]
	haproxy_start 15001
	until_true 10 proxy_is_up
	redirect
	"$WAGGLE" reload
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by 198.18.0.2:8080" ]
	kill -KILL "$PROXY"
	wait "$PROXY" || true
	is_refused http://198.18.0.2:8080/
	run_stop
}

# The proxy's own way to a service is balanced as anybody's, and it is told of the service, not of a backend.
to_a_service() {
	servers
	haproxy_start 15001
	SECTION=$'services:\n  - { name: web, listen: "198.18.0.5:80", backends: [ "198.18.0.2:8080", "198.18.0.3:8080" ] }' redirect
	run_start
	until_true 10 proxy_is_up
	for ((i = 0; i < 10; i++)); do
		redirected http://198.18.0.5/
		echo
	done | sort | uniq -c >"$WORK/who"
	grep -q '5 198.18.0.2 by 198.18.0.5:80$' "$WORK/who"
	grep -q '5 198.18.0.3 by 198.18.0.5:80$' "$WORK/who"
	run_stop
}

# A cgroup that does not exist yet is redirected as soon as it does.
later_cgroup() {
	servers
	haproxy_start 15001
	printf 'redirect: [ { cgroup: %s, to: "127.0.0.1:15001", proxy-cgroup: %s } ]\n' "$CG/later" "$CG/proxy" | config
	run_start
	grep -q "cgroup .*/later' does not exist" "$WORK/run.err"
	mkdir "$CG/later"
	until_true 10 in_group later proxy_is_up
	rmdir "$CG/later"
	until_true 10 status_is missing_cgroups 1
	mkdir "$CG/later"
	until_true 10 in_group later proxy_is_up
	run_stop
}

# The proxy in another namespace, behind a NAT at either side: addresses and ports on the way are others.
through_nat() {
	link_pair
	ip -n b address add 198.18.0.2/32 dev lo
	ip netns exec a nft -f - <<-END
		table ip t {
			chain c { type nat hook postrouting priority 100; masquerade random; }
		}
	END
	ip netns exec b nft -f - <<-END
		table ip t {
			chain c { type nat hook prerouting priority -100; tcp dport 15001 redirect to :15021; }
		}
	END
	start_in server ip netns exec b "$TOOLS/httpd" 198.18.0.2 8080 far
	NETNS=(ip netns exec b)
	haproxy_start 15021 0.0.0.0
	printf 'redirect: [ { cgroup: %s, to: "198.18.1.2:15001", proxy-cgroup: %s } ]\n' "$SCOPE" "$CG/proxy" | config
	run_start
	until_true 10 ip netns exec a curl -sS --max-time 5 -o /dev/null http://198.18.0.2:8080/
	[ "$(ip netns exec a curl -sS --max-time 10 -o /dev/null -w '%header{told}' http://198.18.0.2:8080/)" = 198.18.0.2:8080 ]
	run_stop
}

# Whoever connects to the server's port gets to its proxy first, and the proxy to the server.
inbound() {
	servers
	haproxy_start 15001
	printf 'redirect: [ { cgroup: %s, direction: inbound, to: "127.0.0.1:15001", proxy-cgroup: %s, ports: [ 8080 ] } ]\n' \
		"$CG/server" "$CG/proxy" | config
	run_start
	until_true 10 proxy_is_up
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by 198.18.0.2:8080" ]
	[ "$(redirected http://198.18.0.3:8080/)" = "198.18.0.3 by 198.18.0.3:8080" ]
	# It outlives waggle, and is taken over.
	run_stop
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by 198.18.0.2:8080" ]
	run_start
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by 198.18.0.2:8080" ]
	# A proxy that is gone, and one that is there again.
	kill -KILL "$PROXY"
	wait "$PROXY" || true
	is_refused http://198.18.0.2:8080/
	haproxy_start 15001
	until_true 10 proxy_is_up
	config </dev/null
	"$WAGGLE" reload
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by " ]
	run_stop
}

# The resolver of libc asks a server that nobody can reach, and is answered by the one on this machine.
dns() {
	local names=(--keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces --pid-file= --user=root
		--listen-address=127.0.0.1 --port=15053 --address=/bee.test/198.18.0.2)

	servers
	haproxy_start 15001
	start_in proxy dnsmasq "${names[@]}"
	until_true 10 answers 127.0.0.1 15053
	printf 'nameserver 198.18.9.53\noptions timeout:1 attempts:1\n' >"$WORK/resolv.conf"
	mount --bind "$WORK/resolv.conf" "$(readlink -f /etc/resolv.conf)"
	[ -z "$(getent ahostsv4 bee.test)" ]
	redirect 'dns: 127.0.0.1:15053'
	run_start
	until_true 10 proxy_is_up
	until_true 10 getent ahostsv4 bee.test
	getent ahostsv4 bee.test | grep -q '^198.18.0.2 '
	[ "$(redirected http://bee.test:8080/)" = "198.18.0.2 by 198.18.0.2:8080" ]
	status_is 'counters.dns >= 3' true
	# Whoever is in another cgroup asks in vain.
	[ -z "$(in_group out getent ahostsv4 bee.test)" ]
	run_stop
}

redis_through_it() {
	servers
	haproxy_start 15001
	start_in server redis-server --bind 198.18.0.4 --port 6379 --protected-mode no --save '' --dir "$WORK"
	printf 'redirect: [ { cgroup: %s, to: "127.0.0.1:15002", proxy-cgroup: %s } ]\n' "$SCOPE" "$CG/proxy" | config
	run_start
	until_true 10 redis-cli -h 198.18.0.4 ping
	[ "$(redis-cli -h 198.18.0.4 set a b)" = OK ]
	[ "$(redis-cli -h 198.18.0.4 get a)" = b ]
	status_is 'redirects[0].connections >= 3' true
	run_stop
}

# Both hops of each connection are joined.
both_hops_joined() {
	servers
	haproxy_start 15001
	printf 'redirect: [ { cgroup: %s, to: "127.0.0.1:15001", proxy-cgroup: %s } ]\n' "$SCOPE" "$CG/proxy" |
		config "accelerate: { cgroups: [ $CG ], trust: [ $(command -v haproxy), $TOOLS/httpd, $(command -v wrk) ] }"
	run_start
	until_true 10 proxy_is_up
	load_start http://198.18.0.2:8080/ 4 4
	until_true 10 joined_to 198.18.0.2:8080
	load_end
	((ERRORS == 0))
	run_stop
}

# A joined pair of the client and the proxy, and one of the proxy and the server.
joined_to() {
	"$WAGGLE" sockets --json >"$WORK/sockets"
	jq -e '[.. | objects | select(.state? == "joined") | tostring] | (map(select(contains("15001"))) | length > 0)
		and (map(select(contains("8080"))) | length > 0)' "$WORK/sockets"
}

denied() {
	is_refused "$1" && grep -q 'Operation not permitted\|connect to\|Failed to connect' "$WORK/curl"
}

policies() {
	servers
	policy "  - { action: allow, from: $SCOPE, to: 198.18.0.2/32, ports: 8080 }" "  - { action: deny, from: $SCOPE, to: 198.18.0.0/15 }"
	run_start
	[ "$(curl -sS --max-time 10 http://198.18.0.2:8080/)" = 198.18.0.2 ]
	denied http://198.18.0.3:8080/
	[ "$(curl -sS --max-time 10 'http://[2001:2::2]:8080/')" = 2001:2::2 ]
	[ "$(in_group out curl -sS --max-time 10 http://198.18.0.3:8080/)" = 198.18.0.3 ]
	status_is 'policies | map(.decisions)' $'[\n  1,\n  1\n]'
	status_is counters.denied 1
	# It is explained.
	"$WAGGLE" policy test -c "$CONFIG" --from "$SCOPE" --to 198.18.0.3:8080 >"$WORK/why"
	grep -qx "denied: by policy 2 of 2, at $CONFIG:3:5" "$WORK/why"
	"$WAGGLE" policy test -c "$CONFIG" --from "$SCOPE/deeper" --to 198.18.0.2:8080 --json |
		jq -e '.allowed and .policy.index == 0 and .policy.at.line == 2 and .redirect == null'
	"$WAGGLE" policy test -c "$CONFIG" --from /elsewhere --to '[2001:2::2]:8080' >"$WORK/why"
	grep -qx 'allowed: no policy matches' "$WORK/why"
	run_stop
}

# A connection that is open when policy turns against it: closed at once.
policy_closes() {
	local line status

	servers
	policy "  - { action: allow, from: $SCOPE }"
	run_start
	exec 3<>/dev/tcp/198.18.0.2/8080
	exec 4<>/dev/tcp/198.18.0.3/8080
	policy "  - { action: deny, from: $SCOPE, to: 198.18.0.2/32, on-change: close }"
	"$WAGGLE" reload
	status_is counters.closed 1
	status=0
	read -r -t 10 -u 3 line 2>/dev/null || status=$?
	((status > 0 && status < 128))
	printf 'GET / HTTP/1.0\r\n\r\n' >&4
	read -r -t 10 -u 4 line
	[[ $line == HTTP/* ]]
	exec 3>&- 4>&-
	run_stop
}

# A joined pair that policy turns against goes back to TCP, and no request fails.
policy_leaves() {
	servers
	printf 'policy: [ { action: allow, from: %s } ]\n' "$SCOPE" |
		config "accelerate: { cgroups: [ $CG ], trust: [ $TOOLS/httpd, $(command -v wrk) ] }"
	run_start
	load_start http://198.18.0.2:8080/ 8 4
	until_true 10 has_joined
	printf 'policy: [ { action: deny, from: %s, to: 198.18.0.2/32 } ]\n' "$SCOPE" |
		config "accelerate: { cgroups: [ $CG ], trust: [ $TOOLS/httpd, $(command -v wrk) ] }"
	"$WAGGLE" reload
	until_true 10 all_left_by_policy
	load_end
	((ERRORS == 0))
	run_stop
}

all_left_by_policy() {
	"$WAGGLE" sockets --json | jq -e '.summary.joined == 0 and any(.pairs[]; .reason == "policy")'
}

traced() {
	servers
	policy "  - { action: deny, from: $SCOPE, to: 198.18.0.0/15 }"
	run_start
	"$WAGGLE" trace --json >"$WORK/trace" &
	until_true 20 denied_is_traced
	kill -TERM $!
	"$WAGGLE" trace >"$WORK/text" &
	until_true 20 denied_in_text
	kill -TERM $!
	jq -e 'select(.event == "denied") | .process == "curl" and .to == "198.18.0.2:8080" and .uid == 0' "$WORK/trace" >"$WORK/all"
	! grep -qv true "$WORK/all"
	run_stop
}

# Clients of other machines, who have no program here that connect() could refuse.
far() {
	link_pair
	ip -n a address add 198.18.0.2/32 dev lo
	# Sources that no other test has: such a policy is the whole machine's.
	ip -n b address add 198.19.77.3/32 dev vb
	ip -n b address add 2001:2:77::3/128 dev vb nodad
	ip -n a route add 198.19.77.3 dev va
	ip -n a route add 2001:2:77::3 dev va
	ip -n b route add 198.18.0.2 via 198.18.1.1
	start_in server ip netns exec a "$TOOLS/httpd" 198.18.0.2 8080 here
	start_in server6 ip netns exec a "$TOOLS/httpd" 2001:2::1 8080 here6
	until_true 10 ip netns exec a curl -sS --max-time 5 -o /dev/null http://198.18.0.2:8080/
	until_true 10 ip netns exec a curl -sS --max-time 5 -o /dev/null 'http://[2001:2::1]:8080/'
	printf '%s\n' "identities: { far: { cidrs: [ 198.19.77.3/32, 2001:2:77::3/128 ] }, six: { cgroups: [ $CG/server6 ] } }" \
		"policy: [ { action: deny, from: far } ]" | config
	run_start
	far_is accepted 198.18.1.2 198.18.0.2
	far_is silent 198.19.77.3 198.18.0.2
	far_is accepted 2001:2::2 2001:2::1
	far_is silent 2001:2:77::3 2001:2::1
	status_is 'policies[0].decisions >= 2' true
	# A program of this machine was asked about when it connected, wherever it does.
	[ "$(ip netns exec b curl -sS --max-time 10 http://198.18.0.2:8080/)" = here ]
	printf '%s\n' "identities: { six: { cgroups: [ $CG/server6 ] } }" \
		"policy: [ { action: allow, from: $SCOPE }, { action: deny, to: six } ]" | config
	"$WAGGLE" reload
	far_is accepted 198.19.77.3 198.18.0.2
	far_is silent 2001:2::2 2001:2::1
	[ "$(ip netns exec b curl -sS --max-time 10 'http://[2001:2::1]:8080/')" = here6 ]
	# It outlives waggle, and goes with it.
	"$WAGGLE" policy test -c "$CONFIG" --source 2001:2::2 --listener "$CG/server6" --to '[2001:2::1]:8080' >"$WORK/why"
	grep -q "^denied: by policy 2 of 2, at $CONFIG:2:" "$WORK/why"
	kill -KILL "$RUN"
	wait "$RUN" || true
	far_is silent 2001:2::2 2001:2::1
	run_start
	far_is silent 2001:2::2 2001:2::1
	"$WAGGLE" trace >"$WORK/trace" &
	until_true 20 far_is_traced
	kill -TERM $!
	grep -q ' denied  *tcp \[2001:2::1\]:8080 by entry 2  from \[2001:2::2\]:[0-9]* to /.*/server6$' "$WORK/trace"
	"$WAGGLE" unload || true
	wait "$RUN"
	far_is accepted 2001:2::2 2001:2::1
}

# far_is ANSWER SOURCE DESTINATION: silence is soon heard, an answer waited for.
far_is() {
	local seconds=10

	[ "$1" = accepted ] || seconds=1
	[ "$(ip netns exec b "$FAR_SYN" "$2" "$3" 8080 "$seconds")" = "$1" ]
}

far_is_traced() {
	far_is silent 2001:2::2 2001:2::1
	grep -q denied "$WORK/trace"
}

denied_is_traced() {
	denied http://198.18.0.2:8080/
	grep -q '"denied"' "$WORK/trace"
}

denied_in_text() {
	denied http://198.18.0.2:8080/
	grep -q ' denied  *tcp 198.18.0.2:8080 by entry 1  for curl([0-9]*) of /' "$WORK/text"
}

wrong_usage() {
	local args status

	config <<<'policy: [ { action: deny } ]'
	for args in "" "test" "explain -c $CONFIG --from / --to 1.2.3.4:5" "test -c $CONFIG" "test -c $CONFIG --from app --to 1.2.3.4:5" \
		"test -c $CONFIG --from /app --to 1.2.3.4" "test -c $CONFIG --to 1.2.3.4:5" "test -c /nonexistent --from /app --to 1.2.3.4:5"; do
		status=0
		# shellcheck disable=SC2086
		"$WAGGLE" policy $args 2>"$WORK/err" || status=$?
		[ "$status" = 2 ]
		[ "$(wc -l <"$WORK/err")" = 1 ]
	done
}

@test "a transparent proxy is told where connections wanted to go, and their programs see nothing of it" {
	inside told_the_destination
}

@test "networks and ports are excluded, and reloads change that" {
	inside excluded
}

@test "redirects outlive waggle, are taken over, and go with unload" {
	inside outlives
}

@test "without its proxy a connection is refused, or goes straight on" {
	inside fails_as_told
}

@test "the proxy is told of the service, and is balanced itself" {
	inside to_a_service
}

@test "a cgroup that comes later is redirected, and again after it was removed" {
	inside later_cgroup
}

@test "the destination gets through namespaces and NAT" {
	inside through_nat
}

@test "inbound: connections to a server come to its proxy first" {
	inside inbound
}

@test "dns: a program's resolver is answered by another server than it asked" {
	command -v dnsmasq >/dev/null || [ -x /usr/sbin/dnsmasq ] || skip "dnsmasq is missing: sudo tools/install-deps test"
	inside dns
}

@test "redis-cli through the proxy" {
	command -v redis-server >/dev/null || skip "redis-server is missing: sudo tools/install-deps"
	inside redis_through_it
}

@test "both hops are joined" {
	inside both_hops_joined
}

@test "policies decide, and are explained" {
	inside policies
}

@test "a connection that policy turns against is closed" {
	inside policy_closes
}

@test "a joined pair that policy turns against goes back to TCP" {
	inside policy_leaves
}

@test "policies hold for clients of other machines" {
	inside far
}

@test "what is denied is traced" {
	inside traced
}

@test "wrong usage of waggle policy is told in one line" {
	inside wrong_usage
}
