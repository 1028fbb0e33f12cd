#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The Debian package: installed, run with what its unit leaves it, upgraded and removed, in a copy of this system that is
# thrown away.

load ../lib/net.bash
load ../lib/run.bash

export REPO=$BATS_TEST_DIRNAME/../..

# A copy of the root, of which nothing is kept. Sets ROOT.
root_copy() {
	mkdir "$WORK/copy"
	mount -t tmpfs tmpfs "$WORK/copy"
	mkdir "$WORK/copy/up" "$WORK/copy/work" "$WORK/copy/root"
	ROOT=$WORK/copy/root
	mount -t overlay overlay -o "lowerdir=/,upperdir=$WORK/copy/up,workdir=$WORK/copy/work" "$ROOT"
	mount -t proc proc "$ROOT/proc"
	mount --rbind /sys "$ROOT/sys"
	mount --rbind /run "$ROOT/run"
	mount --rbind /dev "$ROOT/dev"
	# Nothing of an installation that there may be here.
	rm -f "$ROOT/usr/bin/waggle" "$ROOT/usr/local/bin/waggle" "$ROOT/usr/sbin/waggle"
	chroot "$ROOT" groupdel waggle 2>/dev/null || true
}

in_root() {
	chroot "$ROOT" "$@"
}

# What the unit says of capabilities and groups, without the manager that would see to it.
unit_capabilities() {
	sed -n 's/^CapabilityBoundingSet=//p' "$ROOT/lib/systemd/system/waggle.service" |
		tr ' ' '\n' | sed 's/^CAP_/+/' | tr 'A-Z\n' 'a-z,' | sed 's/,$//'
}

# run_packaged CAPABILITIES: as run_start, in the copy.
run_packaged() {
	local tries=1000

	mkdir -p "$ROOT/run/waggle"
	: >"$WORK/run.out"
	chroot "$ROOT" setpriv --no-new-privs --bounding-set "-all,$1" --inh-caps -all --groups "$(in_root getent group waggle | cut -d: -f3)" \
		waggle run -c /etc/waggle/waggle.yaml >"$WORK/run.out" 2>"$WORK/run.err" &
	RUN=$!
	until grep -qx ready "$WORK/run.out"; do
		if ((tries-- == 0)) || ! kill -0 "$RUN" 2>/dev/null; then
			echo "waggle run did not come up: $(cat "$WORK/run.err")" >&2
			return 1
		fi
		sleep 0.02
	done
}

package_lives() {
	local deb

	deb=$("$REPO/tools/deb" "$TOOLS/../.." "$WORK")
	root_copy
	cp "$deb" "$ROOT/waggle.deb"
	in_root dpkg -i /waggle.deb >"$WORK/dpkg" 2>&1 || { cat "$WORK/dpkg" >&2; return 1; }
	in_root dpkg -V waggle
	in_root getent group waggle
	in_root waggle check -c /etc/waggle/waggle.yaml
	[ -e "$ROOT/usr/share/man/man8/waggle-run.8.gz" ]
	[ -e "$ROOT/usr/share/doc/waggle/openapi.yaml" ]
	bash -n "$ROOT/usr/share/bash-completion/completions/waggle"
	grep -q '^#compdef waggle' "$ROOT/usr/share/zsh/vendor-completions/_waggle"
	grep -q '^complete -c waggle' "$ROOT/usr/share/fish/vendor_completions.d/waggle.fish"

	# Balancing alone, with the three that it needs; the group may use the socket.
	run_addresses
	backend_start 198.18.0.2 8080
	echo 'services: [ { name: web, listen: 198.18.0.5:80, health: { http: / }, backends: [ 198.18.0.2:8080 ] } ]' | config
	cp "$CONFIG" "$ROOT/etc/waggle/waggle.yaml"
	run_packaged +bpf,+net_admin,+perfmon
	[ "$(stat -c '%a' /run/waggle/control.sock)" = 660 ]
	[ "$(who http://198.18.0.5/)" = "1 198.18.0.2" ]
	until_true 15 backend_is web 198.18.0.2:8080 state up
	in_root waggle reload
	in_root setpriv --reuid 65534 --regid 65534 --groups "$(in_root getent group waggle | cut -d: -f3)" waggle status | grep -q '^web '
	run_stop

	# With the accelerator, and all that the unit has; an upgrade meanwhile.
	echo "accelerate: { cgroups: [ \"$CG\" ] }" >>"$ROOT/etc/waggle/waggle.yaml"
	run_packaged "$(unit_capabilities)"
	api /v1/status | jq -e '.class != "off"'
	in_root dpkg --force-confold -i /waggle.deb >"$WORK/dpkg" 2>&1 || { cat "$WORK/dpkg" >&2; return 1; }
	grep -q '^accelerate' "$ROOT/etc/waggle/waggle.yaml"
	[ "$(who http://198.18.0.5/)" = "1 198.18.0.2" ]

	# Away with it: also what balances.
	in_root dpkg -r waggle >"$WORK/dpkg" 2>&1 || { cat "$WORK/dpkg" >&2; return 1; }
	wait "$RUN"
	[ ! -e /sys/fs/bpf/waggle ]
	[ ! -e "$ROOT/usr/bin/waggle" ]
	[ -e "$ROOT/etc/waggle/waggle.yaml" ]
	in_root dpkg -P waggle >"$WORK/dpkg" 2>&1 || { cat "$WORK/dpkg" >&2; return 1; }
	[ ! -e "$ROOT/etc/waggle" ]
	! in_root getent group waggle
	[ -z "$(find "$ROOT/usr" "$ROOT/lib/systemd" "$ROOT/etc" -xdev -newer "$deb" -path '*waggle*' -print -quit)" ]
}

# The unit itself, as far as can be told without running it.
unit_is_right() {
	local out

	out=$(systemd-analyze verify "$REPO/examples/waggle.service" 2>&1 |
		grep -vE "is not executable|Command 'man |^$" || true)
	[ -z "$out" ] || { echo "$out" >&2; return 1; }
	# Ten is a service that may do anything.
	systemd-analyze security --offline=yes --no-pager --threshold=40 "$REPO/examples/waggle.service" >"$WORK/exposure" ||
		{ tail -n 1 "$WORK/exposure" >&2; return 1; }
}

# The manager as the first process of namespaces of its own, with the copy as its root and nothing but waggle to start.
# Sets MANAGER.
manager_start() {
	local unit etc=$ROOT/etc/systemd/system parent

	rm -rf "$etc"/*.wants
	mkdir -p "$etc/waggle.service.d" "$etc/w.target.wants"
	printf '[Unit]\nDescription=w\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n' >"$etc/w.target"
	printf '[Service]\nStandardError=append:/run/waggle.err\n' >"$etc/waggle.service.d/log.conf"
	ln -s /lib/systemd/system/waggle.service "$etc/w.target.wants/"
	for unit in systemd-{journal-flush,journald,modules-load,random-seed,remount-fs,sysctl,sysusers,tmpfiles-setup,tmpfiles-setup-dev}.service \
		systemd-{udev-trigger,udevd,update-utmp}.service {dev-hugepages,sys-kernel-debug,sys-kernel-tracing}.mount; do
		ln -sf /dev/null "$etc/$unit"
	done
	ROOT=$ROOT unshare --mount --pid --ipc --uts --cgroup --fork --kill-child bash -c '
		mount -t proc proc "$ROOT/proc"
		mount -t sysfs sysfs "$ROOT/sys"
		mount -t cgroup2 none "$ROOT/sys/fs/cgroup"
		mount -t bpf bpf "$ROOT/sys/fs/bpf"
		mount -t tmpfs tmpfs "$ROOT/run"
		mount -t tmpfs tmpfs "$ROOT/tmp"
		exec chroot "$ROOT" env -i container=other PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --unit=w.target \
			--log-target=console --show-status=no
	' >"$WORK/manager" 2>&1 &
	parent=$!
	until_true 20 grep -q . "/proc/$parent/task/$parent/children"
	MANAGER=$(tr -d ' ' <"/proc/$parent/task/$parent/children")
	until_true 60 is_active
}

in_manager() {
	nsenter -t "$MANAGER" -m -p -i -C -r -w -- "$@"
}

is_active() {
	[ "$(in_manager systemctl is-active waggle)" = active ]
}

main_pid() {
	in_manager systemctl show waggle -p MainPID --value
}

is_another_than() {
	is_active && [ "$(main_pid)" != "$1" ]
}

# By the unit, with all that it takes away from waggle.
unit_runs() {
	local deb first

	deb=$("$REPO/tools/deb" "$TOOLS/../.." "$WORK")
	root_copy
	cp "$deb" "$ROOT/waggle.deb"
	in_root dpkg -i /waggle.deb >"$WORK/dpkg" 2>&1 || { cat "$WORK/dpkg" >&2; return 1; }
	run_addresses
	cat >"$ROOT/etc/waggle/waggle.yaml" <<-END
		services: [ { name: web, listen: 198.18.0.5:80, backends: [ 198.18.0.2:8080 ] } ]
		connect: { cgroups: [ / ] }
		accelerate: { cgroups: [ / ] }
		policy: [ { action: deny, to: 198.18.9.0/24 } ]
	END
	manager_start || { in_manager cat /run/waggle.err >&2; return 1; }
	first=$(main_pid)
	in_manager waggle status >"$WORK/status"
	grep -q '^web ' "$WORK/status"
	grep -qx 'NoNewPrivs:	1' <(in_manager cat "/proc/$first/status")
	grep -qx 'Seccomp:	2' <(in_manager cat "/proc/$first/status")
	# What it denies it can name: the cgroup by its number.
	in_manager timeout 60 waggle trace --json >"$WORK/trace" &
	until_true 20 denied_here
	kill -TERM $!
	jq -e '.event == "denied" and (.cgroup | startswith("/")) and .process == "bash"' <(grep denied "$WORK/trace" | head -n 1)
	in_manager systemctl reload waggle
	[ "$(main_pid)" = "$first" ]
	in_manager kill -KILL "$first"
	until_true 30 is_another_than "$first"
	in_manager systemctl stop waggle
	# Balancing goes on, and ends with unload.
	in_manager test -e /sys/fs/bpf/waggle
	in_manager waggle unload
	in_manager test ! -e /sys/fs/bpf/waggle
	kill -KILL "$MANAGER"
}

denied_here() {
	! in_manager bash -c 'exec 3<>/dev/tcp/198.18.9.1/80' 2>/dev/null
	grep -q denied "$WORK/trace"
}

@test "deb: is installed, runs with few capabilities, is upgraded and removed" { inside package_lives; }
@test "deb: systemd understands the unit" { inside unit_is_right; }
@test "deb: systemd runs the unit, reloads it, and starts it again" { inside unit_runs; }
