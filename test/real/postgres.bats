#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# PostgreSQL over TCP: pgbench keeps its books, large values and copies come back as they went.

load ../lib/net.bash
load real.bash
load bodies.bash

# The newest that is installed.
pg_bin() {
	find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null | sort -V | tail -n 1 | xargs -r dirname
}

as_postgres() {
	setpriv --reuid=postgres --regid=postgres --clear-groups env HOME="$WORK/pg" PATH="$PG:$PATH" PGHOST=127.0.0.1 PGPORT=5440 \
		PGUSER=postgres PGDATABASE=postgres PGSSLMODE="${PGSSLMODE:-disable}" "$@"
}

sql() {
	as_postgres psql -XAtq -v ON_ERROR_STOP=1 "$@"
}

# One cluster is made, and copied for each run.
start_postgres() {
	PG=$(pg_bin)
	make_cert
	if [ ! -d "$WORK/pg" ]; then
		install -d -o postgres -g postgres "$WORK/pg"
		as_postgres initdb -D "$WORK/pg/new" -A trust --no-sync >/dev/null
		install -o postgres -g postgres -m 600 "$WORK/cert.pem" "$WORK/key.pem" "$WORK/pg/new"
	fi
	rm -rf "$WORK/pg/data"
	cp -a "$WORK/pg/new" "$WORK/pg/data"
	start setpriv --reuid=postgres --regid=postgres --clear-groups "$PG/postgres" -D "$WORK/pg/data" -p 5440 \
		-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=50 \
		-c ssl=on -c ssl_cert_file=cert.pem -c ssl_key_file=key.pem
	until_true 60 sql -c 'select 1'
}

# No transaction may fail, and the money is all there.
books() {
	result_of books sql -c "select (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)
		and (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history)
		and (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history),
		(select count(*) from pgbench_history)"
	tail -n 1 "$RESULT" | grep -qE '^books: t\|[1-9]'
}

bench() {
	as_postgres pgbench -n "$@" >"$WORK/bench" 2>"$WORK/bench.err" || { cat "$WORK/bench" "$WORK/bench.err" >&2; return 1; }
	grep -q '^number of failed transactions: 0 ' "$WORK/bench"
	result "pgbench $*: $(grep -E '^number of (transactions actually|failed)' "$WORK/bench")"
}

pgbench_books() {
	start_postgres
	as_postgres pgbench -i -s 3 -q >"$WORK/init" 2>&1 || { cat "$WORK/init" >&2; return 1; }
	bench -c 10 -j 2 -t 100
	bench -c 10 -j 2 -t 100 -M prepared
	bench -c 16 -j 4 -t 500 -S
	bench -c 4 -j 2 -t 30 -C
	PGSSLMODE=require bench -c 6 -j 2 -t 50
	books
}

pgbench_books_ends() {
	joined_or_asleep "$PG/pgbench"
	told "pgbench is $(state_of "$PG/pgbench"), psql is $(state_of "$PG/psql")"
}

large_values() {
	local mode

	start_postgres
	for mode in disable require; do
		export PGSSLMODE=$mode
		sql -c 'create table v (id int, b text)' \
			-c "insert into v select i, repeat(md5(i::text), i * 100) from generate_series(1, 200) i"
		# All of it to the client, and from there into another table.
		sql -c 'copy v to stdout' >"$WORK/v"
		result "copied: $(sums "$WORK/v")"
		sql -c 'create table w (like v)' -c 'copy w from stdin' <"$WORK/v"
		result_of equal sql -c 'select count(*) from v join w using (id, b)'
		sum_of one sql -c 'select b from w where id = 200'
		sum_of rows sql -c 'select i, i * 3 from generate_series(1, 300000) i'
		sum_of "by cursor" sql -v FETCH_COUNT=100 -c "select i, repeat('x', i % 500) from generate_series(1, 50000) i"
		failure_of "cancelled" sql -c "set statement_timeout = '300ms'" -c 'select pg_sleep(20)'
		failure_of "wrong" sql -c 'select 1/0'
		# Without the random word that newer ones put into it.
		as_postgres pg_dump | LC_ALL=C grep -avE '^.(un)?restrict ' >"$WORK/dump"
		result "dump: $(sums "$WORK/dump")"
		sql -c 'drop table v, w'
	done
	unset PGSSLMODE
}

large_values_ends() {
	told "psql is $(state_of "$PG/psql"), pg_dump is $(state_of "$PG/pg_dump"), postgres is $(state_of "$PG/postgres")"
	joined_or_asleep "$PG/psql"
}

setup() {
	need jq openssl setpriv "$(pg_bin)/postgres" "$(pg_bin)/pgbench"
}

@test "PostgreSQL: pgbench" { TEST_SECONDS=300 inside compare "pgbench" pgbench_books; }
@test "PostgreSQL: large values, copies, TLS, a dump" { TEST_SECONDS=300 inside compare "psql" large_values; }
