# SPDX-License-Identifier: GPL-2.0-or-later
# A place of its own for each network test: mount, network and cgroup of its own, with /run and /var/lib/waggle
# empty. `inside FUNCTION` runs a function of the test file there; whatever it started or made is gone afterwards,
# also when it failed. WAGGLE is the program under test, TOOLS the directory of the test programs.
# shellcheck shell=bash

: "${WAGGLE:?path of the waggle binary}" "${TOOLS:?directory of the built test tools}"

# The cgroup v2 tree, on a hybrid mount too.
cgroup_root() {
	awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts
}

# Ends every process of the test's cgroup and removes it. Also called from outside, where the test was killed.
cgroup_remove() {
	local dir=$1 tries=200

	[ -d "$dir" ] || return 0
	echo 1 >"$dir/cgroup.kill"
	while ! find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null && ((tries-- > 0)); do
		sleep 0.02
	done
	[ ! -d "$dir" ]
}

# inside FUNCTION [ARG...]: the body of a test.
inside() {
	local cg status=0
	cg=$(cgroup_root)/waggle-test-$$-$RANDOM

	mkdir "$cg" "$cg/scope" "$cg/out" "$cg/ctl"
	CG=$cg timeout --kill-after=5 "${TEST_SECONDS:-90}" unshare --mount --net --propagation private bash -c "$(declare -f)"'
		set -euo pipefail
		enter
		trap "echo \"# failed at line \$LINENO: \$BASH_COMMAND\" >&2" ERR
		set -E
		"$@"
	' inside "$@" || status=$?
	cgroup_remove "$cg" || status=1
	return "$status"
}

# The first thing inside: the scope of the accelerator is $SCOPE, where the test's own processes live.
enter() {
	export SCOPE=$CG/scope WORK=/run/work
	echo $$ >"$SCOPE/cgroup.procs"
	mount -t tmpfs -o mode=755 tmpfs /run
	mkdir -p /var/lib/waggle "$WORK" /run/netns
	mount -t tmpfs tmpfs /var/lib/waggle
	# What is pinned is the test's own, and goes with it.
	mount -t bpf bpf /sys/fs/bpf
	ip link set lo up
}

# The address of the test's own network namespace, for the programs' --client-netns and --server-netns.
netns_new() {
	ip netns add "$1"
	ip -n "$1" link set lo up
}

# Spreads a receive queue over both CPUs, so that bytes of one connection are handled by another CPU than before.
# rps_on INTERFACE [NETNS]; without a namespace: here.
rps_on() {
	local set="echo 3 >/sys/class/net/$1/queues/rx-0/rps_cpus"

	if [ -n "${2:-}" ]; then
		ip netns exec "$2" sh -c "$set"
	else
		unshare --mount sh -c "mount -t sysfs sysfs /sys && $set"
	fi
}

# Two namespaces "a" and "b" and a link: 198.18.1.1 and .2, 2001:2::1 and ::2 (prefixes made for such tests).
link_pair() {
	netns_new a
	netns_new b
	ip link add va netns a type veth peer name vb netns b
	ip -n a address add 198.18.1.1/24 dev va
	ip -n b address add 198.18.1.2/24 dev vb
	ip -n a address add 2001:2::1/64 dev va nodad
	ip -n b address add 2001:2::2/64 dev vb nodad
	ip -n a link set va up
	ip -n b link set vb up
}

# Starts the accelerator on $SCOPE in the background and waits until it is attached. Sets ACCEL.
accel_start() {
	local tries=500

	: >"$WORK/accel.out"
	(
		echo "$BASHPID" >"$CG/ctl/cgroup.procs"
		exec "$WAGGLE" accel --cgroup "$SCOPE" "$@"
	) >"$WORK/accel.out" 2>"$WORK/accel.err" &
	ACCEL=$!
	until grep -qx ready "$WORK/accel.out"; do
		if ((tries-- == 0)) || ! kill -0 "$ACCEL" 2>/dev/null; then
			echo "waggle accel did not come up: $(cat "$WORK/accel.err")" >&2
			return 1
		fi
		sleep 0.02
	done
}

# Ends it by SIGTERM; it must leave in good order.
accel_stop() {
	kill -TERM "$ACCEL"
	if ! wait "$ACCEL"; then
		echo "waggle accel ended with an error: $(cat "$WORK/accel.err")" >&2
		return 1
	fi
}

# until_true SECONDS COMMAND...: tries again and again; fails when the time is up.
until_true() {
	local until=$((SECONDS + $1 + 1))
	shift

	until "$@" >/dev/null 2>&1; do
		if ((SECONDS > until)); then
			echo "did not come true: $*" >&2
			"$@" >&2
			return 1
		fi
		sleep 0.05
	done
}

# counter NAME: of the running accelerator.
counter() {
	"$TOOLS/kernel_view" stats "$ACCEL" | jq ".$1"
}

# counter_is COUNTER N
counter_is() {
	[ "$(counter "$1")" = "$2" ]
}

# at_least COUNTER N
at_least() {
	local n
	n=$(counter "$1")
	if ((n < $2)); then
		echo "$1 is $n, expected at least $2: $("$TOOLS/kernel_view" stats "$ACCEL")" >&2
		return 1
	fi
}

# Sets how many pairs were joined of those whose ends are both in scope, in percent; at least this many must be.
joined_share() {
	local stats
	stats=$("$TOOLS/kernel_view" stats "$ACCEL")
	if ! jq -e --argjson share "$1" '.local > 0 and .joined * 2 >= .local
		and (.joined + 2 * .poisoned) * 100 >= .local * $share' <<<"$stats" >/dev/null; then
		echo "less than $1 % of the connections were joined: $stats" >&2
		return 1
	fi
}

# Load on URL in the background, for at most SECONDS, with CONNECTIONS; more options of wrk may follow. With FROM set: from
# that namespace. Sets LOAD.
load_start() {
	${FROM:+nsenter "--net=/run/netns/$FROM"} wrk -t 1 -d "$2" -c "$3" "${@:4}" "$1" >"$WORK/wrk" 2>&1 &
	LOAD=$!
	sleep 0.5
}

# Waits for it. Sets REQUESTS, and ERRORS: requests and connections that came to nothing.
load_end() {
	wait "$LOAD"
	REQUESTS=$(awk '/requests in/ { print $1 }' "$WORK/wrk")
	ERRORS=$(awk '/Socket errors:/ { gsub(",", ""); n += $4 + $6 + $8 + $10 } /Non-2xx/ { n += $NF } END { print n + 0 }' "$WORK/wrk")
	if ((REQUESTS == 0)); then
		echo "no request was answered: $(cat "$WORK/wrk")" >&2
		return 1
	fi
}
