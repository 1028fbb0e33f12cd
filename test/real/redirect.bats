#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# PostgreSQL's own clients, redirected to a transparent haproxy, with both hops joined: they see nothing of either.

load ../lib/net.bash
load ../lib/run.bash
load real.bash

pg_bin() {
	find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null | sort -V | tail -n 1 | xargs -r dirname
}

as_postgres() {
	setpriv --reuid=postgres --regid=postgres --clear-groups env HOME="$WORK/pg" PATH="$PG:$PATH" PGHOST=198.18.0.4 PGPORT=5440 \
		PGUSER=postgres PGDATABASE=postgres PGSSLMODE=disable "$@"
}

sql() {
	as_postgres psql -XAtq -v ON_ERROR_STOP=1 -c "$1"
}

# start_in GROUP COMMAND...: in the background, in a cgroup of its own.
start_in() {
	(
		mkdir -p "$CG/$1"
		echo "$BASHPID" >"$CG/$1/cgroup.procs"
		exec "${@:2}"
	) >>"$WORK/started" 2>&1 &
}

psql_through_the_proxy() {
	PG=$(pg_bin)
	run_addresses
	install -d -o postgres -g postgres "$WORK/pg"
	as_postgres initdb -D "$WORK/pg/data" -A trust --no-sync >/dev/null
	echo 'host all all 198.18.0.0/15 trust' >>"$WORK/pg/data/pg_hba.conf"
	start_in server setpriv --reuid=postgres --regid=postgres --clear-groups "$PG/postgres" -D "$WORK/pg/data" -p 5440 \
		-c listen_addresses=198.18.0.4 -c unix_socket_directories= -c fsync=off
	until_true 60 sql 'select 1'
	cat >"$WORK/haproxy.cfg" <<-END
		defaults
			mode tcp
			timeout connect 10s
			timeout client 60s
			timeout server 60s
		listen any
			bind 127.0.0.1:15001
			server any 0.0.0.0:0 source 198.18.0.3
	END
	start_in proxy haproxy -db -f "$WORK/haproxy.cfg"
	until_true 20 answers 127.0.0.1 15001
	printf 'redirect: [ { cgroup: %s, to: "127.0.0.1:15001", proxy-cgroup: %s } ]\n' "$SCOPE" "$CG/proxy" |
		config "accelerate: { cgroups: [ $CG ] }"
	run_start
	# The server's client is the proxy; psql's server is the server.
	[ "$(sql 'select host(inet_client_addr()), host(inet_server_addr())')" = '198.18.0.3|198.18.0.4' ]
	as_postgres psql -X -c '\conninfo' | grep -q '198.18.0.4.*5440'
	as_postgres pgbench -i -s 1 -q >"$WORK/init" 2>&1
	as_postgres pgbench -n -c 4 -t 50 >"$WORK/bench" 2>"$WORK/bench.err"
	grep -q '^number of failed transactions: 0 ' "$WORK/bench"
	[ "$(sql 'select sum(delta) = (select sum(abalance) from pgbench_accounts) from pgbench_history')" = t ]
	run_stop
}

@test "psql and pgbench through a redirect" {
	[ -n "$(pg_bin)" ] || need postgres
	need haproxy psql pgbench
	inside psql_through_the_proxy
}
