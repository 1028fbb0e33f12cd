#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# What is asked for wrongly, or cannot be: one line on stderr, an exit code, nothing left behind.

load ../lib/net.bash

# refused CODE COMMAND...: ends with this code and one line, in good time.
refused() {
	local want=$1 code=0 lines
	shift

	timeout 20 "$@" >"$WORK/out" 2>"$WORK/err" || code=$?
	lines=$(wc -l <"$WORK/err")
	if [ "$code" != "$want" ] || [ "$lines" != 1 ]; then
		echo "$*: exit $code, expected $want; stderr has $lines lines:" >&2
		cat "$WORK/err" >&2
		return 1
	fi
	if [ -s "$WORK/out" ]; then
		echo "$*: printed on stdout: $(cat "$WORK/out")" >&2
		return 1
	fi
}

usage() {
	refused 2 "$WAGGLE"
	refused 2 "$WAGGLE" no-such-command
	refused 2 "$WAGGLE" accel --no-such-option
	refused 2 "$WAGGLE" accel --cgroup
	refused 2 "$WAGGLE" accel --port
	refused 2 "$WAGGLE" accel --port ""
	refused 2 "$WAGGLE" accel --port 0
	refused 2 "$WAGGLE" accel --port 65536
	refused 2 "$WAGGLE" accel --port 10-5
	refused 2 "$WAGGLE" accel --port 80,,81
	refused 2 "$WAGGLE" accel --exclude-port http
	refused 2 "$WAGGLE" accel --max-sockets 1
	refused 2 "$WAGGLE" accel --max-sockets many
	refused 2 "$WAGGLE" accel --cg /
	refused 2 "$WAGGLE" accel an-operand
	refused 2 "$WAGGLE" accel -xy
	grep -q "'-xy'" "$WORK/err"
}

wrong_objects() {
	refused 2 "$WAGGLE" accel --cgroup /no/such/dir
	refused 2 "$WAGGLE" accel --cgroup /etc/passwd
	refused 2 "$WAGGLE" accel --cgroup /tmp
	if [ -d /sys/fs/cgroup/cpu ]; then
		refused 2 "$WAGGLE" accel --cgroup /sys/fs/cgroup/cpu
	fi
	refused 2 "$WAGGLE" accel --cgroup "$SCOPE" --trust /no/such/file
	refused 2 "$WAGGLE" accel --cgroup "$SCOPE" --trust /etc
}

# By somebody who may do nothing. The build may be where nobody else can read.
no_privilege() {
	local run=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all "$WORK/waggle")
	local command code=0

	cp "$WAGGLE" "$WORK/waggle"
	chmod 755 "$WORK" "$WORK/waggle"
	for command in accel unload; do
		refused 1 "${run[@]}" "$command"
		grep -q 'run as root' "$WORK/err"
	done
	for command in sockets trace; do
		refused 1 "${run[@]}" "$command"
		grep -q 'no waggle is running' "$WORK/err"
	done
	"${run[@]}" doctor >"$WORK/out" 2>"$WORK/err" || code=$?
	((code == 1))
	[ ! -s "$WORK/err" ]
	grep -q 'run as root' "$WORK/out"
	[ -z "$(ls -A /var/lib/waggle)" ]
	[ ! -e /run/waggle ]
	# Nor may they look at one that runs, or end it.
	accel_start
	for command in sockets trace unload; do
		refused 1 "${run[@]}" "$command"
		grep -q 'run as root' "$WORK/err"
	done
	accel_stop
}

# An empty file stands where the kernel would describe itself.
no_btf() {
	mount --bind /dev/null /sys/kernel/btf/vmlinux
	refused 1 "$WAGGLE" accel --cgroup "$SCOPE"
	grep -qi btf "$WORK/err"
	[ ! -e /run/waggle/control.sock ]
}

hook_is_held() {
	local above=$SCOPE below=$SCOPE/below

	mkdir "$below"
	"$TOOLS/kernel_view" hold "$above" >"$WORK/holder" &
	local holder=$!
	for _ in {1..250}; do
		grep -qx holding "$WORK/holder" && break
		sleep 0.02
	done
	refused 1 "$WAGGLE" accel --cgroup "$above"
	refused 1 "$WAGGLE" accel --cgroup "$below"
	kill "$holder"
	wait "$holder" || true
	accel_stop_after_hold "$above"
}

# The program stays attached when its maker ends, so the cgroup is left alone; another one works.
accel_stop_after_hold() {
	bpftool cgroup detach "$1" sock_ops name test_hold
	accel_start
	"$TOOLS/kernel_view" objects "$ACCEL" >"$WORK/objects"
	accel_stop
	"$TOOLS/kernel_view" left <"$WORK/objects"
}

second_instance() {
	accel_start
	refused 1 "$WAGGLE" accel --cgroup "$SCOPE"
	accel_stop
}

@test "unknown options, missing and wrong values" { inside usage; }
@test "a cgroup that is none, or not of version 2, and a file that is none" { inside wrong_objects; }
@test "no privilege" { inside no_privilege; }
@test "another program holds the hook" { inside hook_is_held; }
@test "a second accelerator in the same place" { inside second_instance; }
@test "no description of the kernel (BTF)" { inside no_btf; }
