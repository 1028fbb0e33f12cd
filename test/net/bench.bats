#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The benchmarks measure what they say, give every row, and take their lab away, however they end. No speed is asserted.

load ../lib/net.bash
load ../lib/bench.bash

# The rows of 'accel'; what is skipped for a program that is not installed must say so.
export ACCEL_SWEEPS="pingpong-one pingpong-cross stream-cross-nodelay stream-cross-nagle stream-one-nodelay stream-one-nagle"
export ACCEL_SINGLES="http-straight http-keepalive http-1m redis-p1 redis-p16 remote-pingpong remote-stream remote-connect connect memory"

# Somebody else may be measuring: the cgroup tree is the machine's.
export WAGGLE_BENCH_LAB=waggle-bench-test-$$

# bench ARG...: its result in $WORK/bench.json.
bench() {
	"$WAGGLE" bench "$@" --json >"$WORK/bench.json" 2>"$WORK/bench.err" || {
		grep -v '^round ' "$WORK/bench.err" >&2
		return 1
	}
}

# holds JQ-FILTER: true of the result.
holds() {
	jq -e "$1" "$WORK/bench.json" >/dev/null || {
		echo "not so: $1" >&2
		cat "$WORK/bench.json" >&2
		return 1
	}
}

# Every median lies within its samples, and every ratio is that of the medians, turned so that more is better.
consistent() {
	holds '.machine.kernel != "" and .machine.processors > 0 and (.machine.load_before | type) == "number"'
	holds '[.rows[].ways[]] | length > 0 and all(.min <= .median and .median <= .max
		and .q1 <= .median and .median <= .q3 and (.samples | min) == .min and (.samples | max) == .max)'
	holds '.rounds as $n | all(.rows[] | select(.skipped == null and .name != "memory") | .ways[]; (.samples | length) == $n)'
	holds 'all(.rows[] | select(.name != "memory") | .ways[]; .median > 0)'
	holds 'all(.rows[] | select(.skipped == null and (.group | test("^(http|redis|memory)") | not));
		all(.ways[]; .cpu_us_median > 0 and (.cpu_us_samples | length) == (.samples | length)))'
	holds 'def near($a; $b): (($a - $b) | fabs) <= 1e-6 * ($b | fabs);
		all(.rows[] | select(.name != "memory" and .skipped == null); . as $row | .ratios | to_entries | all(
			.value.of_medians as $r | $row.ways[.key].median as $v | $row.ways.plain.median as $p
			| near($r; if $row.better == "less" then $p / $v else $v / $p end)
			and (.value.cpu as $c | $row.ways.plain.cpu_us_median as $cp | $row.ways[.key].cpu_us_median as $cv
			| if $cv == null then $c == null else near($c; $cp / $cv) end)))'
	holds 'all(.rows[] | select(.target.ratio_at_least != null and .skipped == null);
		.met == (.ratios.joined.of_medians >= .target.ratio_at_least))'
	holds 'all(.rows[] | select(.target.extra_at_most != null and .skipped == null);
		.met == (.ways.joined.median - .ways.plain.median <= .target.extra_at_most))'
	# Left out only for what really is not there.
	local missing
	while read -r missing; do
		case $missing in
		*"' is missing: run 'apt-get install "*) missing=${missing#\'} && ! command -v "${missing%%\'*}" ;;
		"needs two processors") (($(nproc) < 2)) ;;
		*) echo "left out: $missing" >&2 && return 1 ;;
		esac
	done < <(jq -r '.rows[] | select(.skipped != null) | .skipped' "$WORK/bench.json")
}

whole() {
	local names sweep size
	bench accel --quick --plot "$WORK/plots"
	names=$(
		for sweep in $ACCEL_SWEEPS; do
			for size in 1 64 1k 4k 16k 64k 256k 1m; do
				echo "$sweep-$size"
			done
		done
		printf '%s\n' $ACCEL_SINGLES
	)
	diff <(jq -r '.rows[].name' "$WORK/bench.json") <(echo "$names")
	consistent
	# AF_UNIX where it makes sense, and joined sockets that were joined.
	holds 'all(.rows[] | select(.skipped == null); (.ways | has("unix")) == (.name | test("^(http|remote|memory)") | not))'
	holds 'all(.rows[] | select(.skipped == null and (.name | test("^(pingpong|http|redis)"))); .joined > 0)'
	holds 'all(.rows[] | select(.name | startswith("remote")); .joined == 0)'
	for sweep in $ACCEL_SWEEPS memory connect; do
		grep -q '<svg' "$WORK/plots/accel-$sweep.svg" || holds "any(.rows[]; .group == \"$sweep\" and .skipped != null)"
	done
	nothing_left
}

some_rounds() {
	bench sizes --row latency-nagle --rounds 4 --seconds 0.01
	holds '.rounds == 4 and .seconds == 0.01 and ([.rows[].message_bytes] == [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576])'
	consistent
	nothing_left
}

idle_pairs() {
	bench accel --row memory --rounds 1 --pairs 3000
	# Both ends of each pair count once.
	holds '.pairs == 3000 and .rows[0].joined >= 3000 and (.rows[0].ways | keys) == ["joined", "plain"]'
	consistent
	nothing_left
}

missing_program() {
	local redis
	redis=$(command -v redis-server) && mount --bind /dev/null "$(readlink -f "$redis")"
	bench accel --quick --row redis
	holds '[.rows[] | select(.skipped | startswith("'"'redis-server' is missing: run 'apt-get install redis-server'"'")) | .name] == ["redis-p1", "redis-p16"]'
	[ "$(grep -c "'redis-server' is missing" "$WORK/bench.err")" = 1 ]
	nothing_left
}

text() {
	local rounds

	"$WAGGLE" bench >"$WORK/list"
	[ "$(cut -d' ' -f1 "$WORK/list" | tr '\n' ' ')" = "accel sizes connect classic observe redirect policy packet " ]
	"$WAGGLE" bench accel --quick --row remote-pingpong --rounds 100 --limit 1 >"$WORK/out" 2>"$WORK/err"
	rounds=$(sed -nE 's/^medians of ([0-9]+) rounds of 0.02 s.*/\1/p' "$WORK/out")
	[ "$rounds" -ge 1 ]
	[ "$rounds" -lt 100 ]
	grep -q '^Linux .* load ' "$WORK/out"
	grep -qE '^remote-pingpong +us a trip +[0-9.]+ +- +[0-9.]+ +[0-9.]+ +[0-9.]+-[0-9.]+ +[0-9.]+ +>= 0.98 +(yes|NO)$' "$WORK/out"
	grep -qE '^[01] of 1 targets met$' "$WORK/out"
	nothing_left
}

# refused CODE TEXT ARG...: one line, nothing measured.
refused() {
	local want=$1 text=$2 code=0
	shift 2

	"$WAGGLE" bench "$@" >"$WORK/out" 2>"$WORK/err" || code=$?
	if [ "$code" != "$want" ] || [ "$(wc -l <"$WORK/err")" != 1 ] || ! grep -qF -- "$text" "$WORK/err" || [ -s "$WORK/out" ]; then
		echo "bench $*: exit $code, expected $want and '$text':" >&2
		cat "$WORK/err" "$WORK/out" >&2
		return 1
	fi
}

bad_input() {
	refused 2 "there is no benchmark 'acel'" acel
	refused 2 "unexpected argument 'sizes'" accel sizes
	refused 2 "no row of 'accel' has 'no-such' in its name" accel --row no-such
	refused 2 "does not fit --rounds" accel --rounds 0
	refused 2 "does not fit --pairs" accel --pairs 0
	local seconds
	for seconds in "" 0 -1 0.001 601 nan inf 1s 0x; do
		refused 2 "'$seconds' does not fit --seconds" accel --seconds "$seconds"
	done
	refused 2 "cannot make the directory '$WORK/no/such'" accel --plot "$WORK/no/such"
	refused 2 "cannot be a directory for plots" accel --plot "$WORK/bee's"
	rmdir "$WORK/bee's"
	local name
	for name in "" / .. waggle-bench waggle-demo waggle-bench/x waggle-bench-.. waggle-bench-X; do
		WAGGLE_BENCH_LAB=$name refused 2 "does not fit WAGGLE_BENCH_LAB" accel
	done
	nothing_left
}

stopped() {
	local signal=$1 step=$2 tries=1500 code=0

	"$WAGGLE" bench accel --rounds 100 --seconds 5 --row "$3" >"$WORK/bench.out" 2>"$WORK/bench.err" &
	local pid=$!
	until grep -q "$step" "$WORK/bench.err"; do
		((tries-- > 0)) && kill -0 "$pid" || { cat "$WORK/bench.err" >&2; return 1; }
		sleep 0.02
	done
	kill "-$signal" "$pid"
	wait "$pid" || code=$?
	((code == 1))
	tail -n 1 "$WORK/bench.err" | grep -q '^waggle: bench: stopped by signal'
	nothing_left
}

@test "bench accel: every row, consistent numbers, plots" { TEST_SECONDS=240 inside whole; }
@test "bench sizes: several rounds of some rows" { inside some_rounds; }
@test "bench: idle pairs" { inside idle_pairs; }
@test "bench: a row whose program is missing" { inside missing_program; }
@test "bench: the list, and a table" { inside text; }
@test "bench: bad input" { inside bad_input; }
@test "bench, stopped in a plain row" { inside stopped INT ', plain' pingpong-one-64; }
@test "bench, stopped in a joined row" { inside stopped TERM ', joined' pingpong-one-64; }
@test "bench, stopped while wrk runs" { inside stopped HUP ', plain' http-straight; }
