#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# redis: its benchmark, pipelining, values up to 64 MiB, a replica, subscribers; and memcached with its tools.

load ../lib/net.bash
load real.bash
load bodies.bash

start_redis() {
	rm -rf "$WORK/redis$1"
	mkdir "$WORK/redis$1"
	start redis-server --bind 127.0.0.1 --port "$1" --dir "$WORK/redis$1" --save '' --appendonly no \
		--enable-debug-command yes --protected-mode no --repl-diskless-sync yes --repl-diskless-sync-delay 0 "${@:2}"
	until_true 20 answers "$1"
}

answers() {
	[ "$(redis-cli -p "$1" ping)" = PONG ]
}

cli() {
	redis-cli -p 6400 "$@"
}

# bench OPTION...: no error may be told. Rates are not compared.
bench() {
	redis-benchmark -p 6400 -q "$@" >"$WORK/bench" 2>&1
	if grep -iE 'error|wrong|could not' "$WORK/bench" >&2; then
		return 1
	fi
	result "benchmark $*: $(grep -c 'requests per second' "$WORK/bench")"
}

key_contents() {
	result_of "$1, keys" cli dbsize
	result_of "$1, digest" cli debug digest
}

benchmark() {
	start_redis 6400
	bench -t ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,lrange_600,mset -c 50 -n 5000
	result_of counter cli get counter:__rand_int__
	result_of list cli llen mylist
	bench -t set,get,incr,lpush -c 50 -P 16 -n 50000
	result_of counter cli get counter:__rand_int__
	result_of list cli llen mylist
	bench -t set,get -c 10 -n 300 -d 1000000
	bench -t set,get -c 20 -n 400 -d 65536 -P 8
	bench -t set,get -c 20 -n 2000 -k 0
	bench -t set,get -c 20 -n 10000 --threads 2
}

benchmark_ends() {
	joined_or_asleep "$(command -v redis-benchmark)"
	told "redis-cli is $(state_of "$(command -v redis-cli)"), redis-benchmark is $(state_of "$(command -v redis-benchmark)")"
}

# The same commands each time, and what is in the server then, its replica too.
contents() {
	local size

	start_redis 6400
	make_bodies
	for size in $BODY_SIZES; do
		cli -x set "body:$size" <"$BODIES/$size" >/dev/null
		cli get "body:$size" >"$WORK/got"
		truncate -s "$size" "$WORK/got"
		same "$WORK/got" "$size"
		result_of strlen cli strlen "body:$size"
	done
	awk 'BEGIN { for (i = 0; i < 100000; i++) {
		printf "SET key:%d value-%d\r\nRPUSH list:%d %d\r\nHSET hash:%d field%d %d\r\nINCRBY sum %d\r\n", i, i * 7, i % 50, i, i % 20, i, i, i } }' |
		cli --pipe >"$WORK/pipe"
	result "$(tail -n 1 "$WORK/pipe")"
	result_of sum cli get sum
	sum_of list cli lrange list:7 0 -1
	cli hgetall hash:3 | paste - - | sort >"$WORK/hash"
	result "hash: $(sums "$WORK/hash")"
	cli --scan --pattern 'key:*' | sort >"$WORK/keys"
	result "keys: $(sums "$WORK/keys")"
	key_contents before
	# A full copy to a replica, and then what changes.
	start_redis 6401 --replicaof 127.0.0.1 6400
	until_true 30 replica_is_linked
	bench -t incr -c 20 -n 5000
	cli -x set late <"$BODIES/8388609" >/dev/null
	until_true 30 replica_is_equal
	key_contents after
	result_of replica redis-cli -p 6401 debug digest
	# A subscriber gets every message, once, in order.
	start bash -c 'exec redis-cli -p 6400 subscribe news >"$1"' bash "$WORK/news"
	until_true 20 has_subscriber
	awk 'BEGIN { for (i = 0; i < 2000; i++) printf "PUBLISH news message-%d\r\n", i; print "PUBLISH news last\r" }' | cli --pipe >/dev/null
	until_true 30 grep -qx last "$WORK/news"
	result "news: $(grep -c '^message-' "$WORK/news") $(sums "$WORK/news")"
}

replica_is_linked() {
	redis-cli -p 6401 info replication | grep -q 'master_link_status:up'
}

replica_is_equal() {
	[ "$(cli debug digest)" = "$(redis-cli -p 6401 debug digest)" ]
}

has_subscriber() {
	[ "$(cli pubsub numsub news | tail -n 1)" = 1 ]
}

contents_ends() {
	told "redis-cli is $(state_of "$(command -v redis-cli)"), redis-server is $(state_of "$(command -v redis-server)")"
	joined_or_asleep "$(command -v redis-cli)"
}

memcached_tools() {
	local size

	make_bodies
	start memcached -u root -l 127.0.0.1 -p 11300 -m 256 -I 32m -t 2
	listens 11300
	# The conformance test that comes with libmemcached, text and binary protocol.
	timeout 120 memccapable -h 127.0.0.1 -p 11300 >"$WORK/capable" 2>&1 || result "memccapable: exit $?"
	result "$(sort "$WORK/capable" | sha256sum)"
	told "memccapable: $(grep -c pass "$WORK/capable") passed, $(grep -c FAIL "$WORK/capable" || true) failed"
	memcflush --servers=127.0.0.1:11300
	for size in $BODY_SIZES; do
		((size < 16000000)) || continue
		cp "$BODIES/$size" "$WORK/body$size"
		memccp --servers=127.0.0.1:11300 --set "$WORK/body$size"
		memccat --servers=127.0.0.1:11300 "body$size" >"$WORK/got"
		truncate -s "$size" "$WORK/got"
		same "$WORK/got" "$size"
	done
	timeout 120 memcslap --servers=127.0.0.1:11300 --concurrency=20 --execute-number=500 --test=set --flush >"$WORK/slap"
	timeout 120 memcslap --servers=127.0.0.1:11300 --concurrency=20 --execute-number=500 --test=get >"$WORK/slap"
	timeout 120 memcslap --servers=127.0.0.1:11300 --concurrency=20 --execute-number=500 --test=mget >"$WORK/slap"
	timeout 120 memcslap --servers=127.0.0.1:11300 --concurrency=10 --execute-number=500 --test=get --binary --non-blocking >"$WORK/slap"
	many_in_one_send
}

# 2000 values set in one go, and read again in one go.
many_in_one_send() {
	local fd

	exec {fd}<>/dev/tcp/127.0.0.1/11300
	awk 'BEGIN { for (i = 0; i < 2000; i++) printf "set k%d 0 0 100 noreply\r\n%0100d\r\n", i, i }' >&"$fd"
	awk 'BEGIN { for (i = 0; i < 2000; i++) printf "get k%d\r\n", i; printf "quit\r\n" }' >&"$fd" &
	timeout 60 cat <&"$fd" >"$WORK/many"
	wait $!
	exec {fd}>&-
	result "many: $(grep -c '^VALUE' "$WORK/many") $(sums "$WORK/many")"
}

memcached_tools_ends() {
	local tool

	state_is "$(command -v memcached)" trusted
	some_joined
	for tool in memcslap memccapable memccp memccat; do
		told "$tool is $(state_of "$(command -v $tool)")"
	done
}

setup() {
	need redis-server redis-cli redis-benchmark memcached memccapable memcslap jq
}

@test "redis: benchmark, plain and pipelined" { TEST_SECONDS=240 inside compare "redis-benchmark" benchmark; }
@test "redis: contents, large values, a replica, a subscriber" { TEST_SECONDS=240 inside compare "redis" contents; }
@test "memcached: its conformance test, values of many sizes, load" { TEST_SECONDS=240 inside compare "memcached" memcached_tools; }
