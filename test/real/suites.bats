#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Test suites of network software that people trust, run plain and with the accelerator around them: the lists of what
# passed, was skipped and failed must be equal. SUITES is where test/real/sources has put them.

load ../lib/net.bash
load real.bash

export SUITES=${SUITES:-$PWD/build-suites}

# verdicts FILE: lines "VERDICT NAME" in any order.
verdicts() {
	sort -u "$1" >>"$RESULT"
	told "$MODE: $(cut -d ' ' -f 1 "$1" | sort | uniq -c | xargs)"
	[ -s "$1" ]
}

# Every unit talks to servers by many connections: blocking ones of Tcl, redis-cli, redis-benchmark, replicas.
redis_suite() {
	local status=0 units=(unit/type/string unit/type/list unit/type/hash unit/type/stream-cgroups unit/protocol unit/pubsub unit/querybuf
		unit/limits unit/multi unit/quit unit/scan unit/info unit/networking unit/tracking
		integration/redis-cli integration/redis-benchmark integration/replication-buffer integration/block-repl)

	rm -rf "$WORK/redis"
	cp -r "$SUITES/redis/." "$WORK/redis"
	# shellcheck disable=SC2046 # a list
	(cd "$WORK/redis" && timeout 500 ./runtest --clients 2 --timeout 240 --skiptest 'Low memory' \
		$(printf -- '--single %s ' "${units[@]}")) >"$WORK/suite.$MODE" 2>&1 3>/dev/null || status=$?
	sed 's/\x1b\[[0-9;]*m//g' "$WORK/suite.$MODE" |
		sed -nE 's/^\[(ok|err|exception|ignore|skip|timeout)\]: (.*)/\1 \2/p' | sed -E 's/ \([0-9]+ ms\)$//; s/[0-9.]+ (seconds|ms)//' >"$WORK/verdicts"
	((status == 0)) || told "$MODE: $(grep -aE '\[(err|exception|timeout)\]' "$WORK/suite.$MODE" | head -n 5)"
	result "exit $status"
	verdicts "$WORK/verdicts"
}

redis_suite_ends() {
	joined_or_asleep "$(readlink -f "$(command -v tclsh)")" "$(command -v redis-cli)"
	told "tclsh is $(state_of "$(readlink -f "$(command -v tclsh)")"), redis-cli is $(state_of "$(command -v redis-cli)")"
}

# Each test is a process of its own, some with a helper. Two use urgent data, after which a program stays on TCP for
# good: they get a file of their own. Thrice, because so little goes over a connection of a test.
libuv_suite() {
	local name binary round

	mkdir -p "$WORK/uv"
	cp -n "$SUITES/libuv/uv_run_tests_a" "$WORK/uv_run_tests"
	cp -n "$SUITES/libuv/uv_run_tests_a" "$WORK/uv_run_oob"
	export UV_RUN_AS_ROOT=1
	"$WORK/uv_run_tests" --list >"$WORK/uv/list"
	cd "$SUITES"/libuv1-*/ || return
	for round in 1 2 3; do
		for name in $(grep -oE '^(tcp|connect|shutdown|poll|delayed_accept|getsockname_tcp|multiple_listen|ipc|callback_|close_|emfile|not_|readable|watcher|pipe_set_non|socket_buffer|handle_fileno|spawn_tcp)[^ ]*' "$WORK/uv/list"); do
			binary=$WORK/uv_run_tests
			[[ $name != *oob* ]] || binary=$WORK/uv_run_oob
			if timeout 60 "$binary" "$name" >"$WORK/uv/$name.$MODE" 2>&1 3>/dev/null; then
				echo "ok $round $name"
			elif grep -q '# SKIP' "$WORK/uv/$name.$MODE"; then
				echo "skipped $round $name"
			else
				echo "failed $round $name"
				told "$MODE: $name: $(tail -n 3 "$WORK/uv/$name.$MODE" | tr '\n' ' ')"
			fi
		done
	done >"$WORK/verdicts"
	cd "$WORK" || return
	verdicts "$WORK/verdicts"
}

libuv_suite_ends() {
	told "the tests are $(state_of "$WORK/uv_run_tests"), those of urgent data $(state_of "$WORK/uv_run_oob")"
	joined_or_asleep "$WORK/uv_run_tests"
}

go_suite() {
	local package

	: >"$WORK/verdicts"
	for package in net net/http; do
		(cd "/usr/lib/go-1.19/src/$package" && HOME=$WORK timeout 400 "$SUITES/go-${package//\//-}.test" -test.short -test.v) \
			>"$WORK/suite.$MODE" 2>&1 3>/dev/null || result "$package: exit $?"
		sed -nE 's/^ *--- ([A-Z]+): ([^ ]+).*/\1 \2/p' "$WORK/suite.$MODE" >>"$WORK/verdicts"
	done
	verdicts "$WORK/verdicts"
}

go_suite_ends() {
	told "net: $(state_of "$SUITES/go-net.test"), net/http: $(state_of "$SUITES/go-net-http.test")"
	[ "$(class)" = full ] || none_joined
}

# Without what needs more than a network: VSOCK sleeps for ever where there is no such device.
python_suite() {
	: >"$WORK/verdicts"
	cd "$WORK" || return
	if ! { HOME=$WORK timeout 200 /usr/bin/python3.11 -m test -v --ignore '*VSOCK*' test_socket test_socketserver test_selectors test_httpservers \
		test_ftplib test_telnetlib test_urllib2_localnet &&
		HOME=$WORK timeout 200 /usr/bin/python3.11 -m unittest -v test.test_asyncio.test_streams test.test_asyncio.test_sock_lowlevel \
			test.test_asyncio.test_sslproto test.test_asyncio.test_server test.test_asyncio.test_buffered_proto; } \
		>"$WORK/suite.$MODE" 2>&1 3>/dev/null; then
		result "some failed"
		told "$MODE: $(grep -E '^(FAIL|ERROR): ' "$WORK/suite.$MODE" | head -n 5 | xargs)"
	fi
	sed -nE 's/^(test[^ ]* \([^)]*\)).* \.\.\. (ok|FAIL|ERROR|skipped).*/\2 \1/p' "$WORK/suite.$MODE" >"$WORK/verdicts"
	verdicts "$WORK/verdicts"
}

python_suite_ends() {
	told "python3.11 is $(state_of /usr/bin/python3.11)"
	[ "$(class)" = full ] || none_joined
}

setup() {
	need jq tclsh redis-server go /usr/bin/python3.11
	if [ ! -e "$SUITES/libuv/uv_run_tests_a" ]; then
		echo "there are no suites in $SUITES: test/real/sources $SUITES" >&2
		return 1
	fi
}

@test "the test suite of redis" { TEST_SECONDS=1700 inside compare "suite of redis" redis_suite; }
@test "the test suite of libuv" { TEST_SECONDS=1200 inside compare "suite of libuv" libuv_suite; }
@test "Go's tests of net and net/http" { TEST_SECONDS=1200 inside compare "suites of Go" go_suite; }
@test "Python's tests of sockets, asyncio and TLS" { TEST_SECONDS=1500 inside compare "suites of Python" python_suite; }
