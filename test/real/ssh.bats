#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# OpenSSH: commands, scp and sftp both ways, a forwarded port.

load ../lib/net.bash
load real.bash
load bodies.bash

start_sshd() {
	make_bodies
	mkdir -p /run/sshd
	if [ ! -e "$WORK/host_key" ]; then
		ssh-keygen -q -t ed25519 -N '' -f "$WORK/host_key"
		ssh-keygen -q -t ed25519 -N '' -f "$WORK/user_key"
		echo "[127.0.0.1]:2200 $(<"$WORK/host_key.pub")" >"$WORK/known_hosts"
	fi
	cat >"$WORK/sshd_config" <<-END
		Port 2200
		ListenAddress 127.0.0.1
		HostKey $WORK/host_key
		AuthorizedKeysFile $WORK/user_key.pub
		PidFile none
		StrictModes no
		UsePAM no
		PermitRootLogin prohibit-password
		MaxStartups 100
		Subsystem sftp internal-sftp
	END
	cat >"$WORK/ssh_config" <<-END
		Host there
			HostName 127.0.0.1
			Port 2200
			User root
			IdentityFile $WORK/user_key
			UserKnownHostsFile $WORK/known_hosts
			StrictHostKeyChecking yes
			BatchMode yes
			LogLevel ERROR
	END
	start /usr/sbin/sshd -D -e -f "$WORK/sshd_config"
	listens 2200
}

there() {
	timeout 100 ssh -F "$WORK/ssh_config" there "$@"
}

ssh_and_scp() {
	local size i

	start_sshd
	result_of "a command" there 'echo said; exit 0'
	failure_of "one that fails" there 'echo failed >&2; exit 7'
	for size in 0 1 65536 1048577 67108864; do
		rm -f "$WORK"/got*
		timeout 100 scp -q -F "$WORK/ssh_config" "$BODIES/$size" "there:$WORK/got"
		same "$WORK/got" "$size"
		timeout 100 scp -q -O -F "$WORK/ssh_config" "there:$BODIES/$size" "$WORK/got2"
		same "$WORK/got2" "$size"
		timeout 100 sftp -q -F "$WORK/ssh_config" -b - there >/dev/null <<<"get $BODIES/$size $WORK/got3"
		same "$WORK/got3" "$size"
		there "cat >'$WORK/got4'" <"$BODIES/$size"
		same "$WORK/got4" "$size"
		there "cat '$BODIES/$size'" >"$WORK/got5"
		same "$WORK/got5" "$size"
	done
	there -C cat <"$BODIES/1048577" >"$WORK/got6"
	same "$WORK/got6" 1048577
	# Small ones to and fro, as somebody types.
	for i in {1..200}; do echo "line $i"; done | there 'while read -r line; do echo "heard $line"; done' >"$WORK/lines"
	result "lines: $(sums "$WORK/lines")"
	# By a forwarded port ssh and sshd are proxies.
	start ssh -F "$WORK/ssh_config" -N -L 127.0.0.1:2201:127.0.0.1:2200 -o ExitOnForwardFailure=yes there
	listens 2201
	for i in 1 2 3; do
		timeout 100 ssh -F "$WORK/ssh_config" -p 2201 -o HostKeyAlias='[127.0.0.1]:2200' there cat <"$BODIES/8388609" >"$WORK/got7"
		same "$WORK/got7" 8388609
	done
}

ssh_and_scp_ends() {
	told "ssh is $(state_of "$(command -v ssh)"), sshd is $(state_of /usr/sbin/sshd)"
	joined_or_asleep "$(command -v ssh)" /usr/sbin/sshd
}

setup() {
	need ssh scp sftp /usr/sbin/sshd ssh-keygen jq
}

@test "ssh, scp and sftp, both ways, and a forwarded port" { TEST_SECONDS=240 inside compare "ssh" ssh_and_scp; }
