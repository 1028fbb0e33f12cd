# SPDX-License-Identifier: GPL-2.0-or-later
# For tests of `waggle bench`, which name their lab in WAGGLE_BENCH_LAB.
# shellcheck shell=bash

nothing_left() {
	[ -z "$(ls /run/netns)" ]
	[ ! -e "/run/$WAGGLE_BENCH_LAB" ]
	[ ! -e "/sys/fs/bpf/$WAGGLE_BENCH_LAB" ]
	[ ! -e "$(cgroup_root)/$WAGGLE_BENCH_LAB" ]
	[ "$(mount | grep -c "/run/$WAGGLE_BENCH_LAB")" = 0 ]
}
