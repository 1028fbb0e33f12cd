# SPDX-License-Identifier: GPL-2.0-or-later
# Redirects and policies in network tests: servers, and haproxy as a transparent proxy, which reads SO_ORIGINAL_DST, connects
# there, and says in a header what it was told. Wants net.bash and run.bash.
# shellcheck shell=bash

# in_group NAME COMMAND...: runs it in this cgroup below the test's.
in_group() {
	(
		mkdir -p "$CG/$1"
		echo "$BASHPID" >"$CG/$1/cgroup.procs"
		"${@:2}"
	)
}

# start_in NAME COMMAND...: a program, in the background. Its pid is in STARTED.
start_in() {
	(
		mkdir -p "$CG/$1"
		echo "$BASHPID" >"$CG/$1/cgroup.procs"
		exec "${@:2}"
	) >>"$WORK/started" 2>&1 &
	STARTED=$!
}

# Servers at 198.18.0.2 to 4 and 2001:2::2 and 3, port 8080, which say their address.
servers() {
	local a

	run_addresses
	for a in 198.18.0.2 198.18.0.3 2001:2::2; do
		start_in server "$TOOLS/httpd" "$a" 8080 "$a"
		until_true 10 answers "$a" 8080
	done
}

# haproxy_config PORT [ADDRESS]: see haproxy_start.
haproxy_config() {
	cat >"$WORK/haproxy.cfg" <<-END
		defaults
			timeout connect 10s
			timeout client 60s
			timeout server 60s
		listen http
			mode http
			bind ${2:-127.0.0.1}:$1
			http-response set-header told %[dst]:%[dst_port]
			server any 0.0.0.0:0
		listen tcp
			mode tcp
			bind ${2:-127.0.0.1}:$(($1 + 1))
			server any 0.0.0.0:0
	END
}

# haproxy_start PORT [ADDRESS]: of HTTP, and of plain TCP on the next port, behind the command in NETNS. Its pid is in PROXY.
NETNS=()
haproxy_start() {
	haproxy_config "$@"
	start_in proxy "${NETNS[@]}" haproxy -db -f "$WORK/haproxy.cfg"
	PROXY=$STARTED
}

proxy_is_up() {
	[ "$(curl -sS --max-time 5 -o /dev/null -w '%header{told}' http://198.18.0.2:8080/)" = 198.18.0.2:8080 ]
}

# redirected URL: what the proxy was told, and what the server said.
redirected() {
	curl -sS --max-time 10 -w ' by %header{told}' "$1" | tr -d '\n'
}

# redirect LINE...: the one redirect of the test, with more keys.
redirect() {
	{
		printf 'redirect:\n  - cgroup: %s\n    to: 127.0.0.1:15001\n    proxy-cgroup: %s\n' "$SCOPE" "$CG/proxy"
		printf '    %s\n' "$@"
	} | config "${SECTION-}"
}

# is_refused URL: the connect() itself fails.
is_refused() {
	local status=0

	curl -sS --max-time 10 "$1" 2>"$WORK/curl" || status=$?
	[ "$status" = 7 ]
}

# status_is FIELD VALUE: of the redirect hook.
status_is() {
	[ "$("$WAGGLE" status --json | jq ".hooks[] | select(.name == \"redirect\") | .$1")" = "$2" ]
}

# policy ENTRY...: the policies of the test, a line each.
policy() {
	printf '%s\n' 'policy:' "$@" | config
}

has_joined() {
	"$WAGGLE" sockets --json | jq -e '.summary.joined > 0'
}
