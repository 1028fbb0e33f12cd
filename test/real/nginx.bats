#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# nginx as origin, reverse proxy and TLS end, curl and wrk as its clients.

load ../lib/net.bash
load real.bash
load bodies.bash

nginx_conf() {
	mkdir -p "$WORK/put"
	cat >"$WORK/nginx.conf" <<-END
		user root;
		daemon off;
		worker_processes 2;
		pid $WORK/nginx.pid;
		error_log $WORK/nginx.err warn;
		events { worker_connections 1024; }
		http {
			access_log off;
			client_max_body_size 0;
			client_body_temp_path $WORK/temp1;
			proxy_temp_path $WORK/temp2;
			keepalive_requests 1000000000;
			upstream origin { server 127.0.0.1:8080; keepalive 16; }
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			server {
				listen 8080;
				root $BODIES;
				location /small { return 200 "hello"; }
				location /packed/ { alias $BODIES/; gzip on; gzip_types *; gzip_min_length 0; gzip_comp_level 1; }
				location /put/ { alias $WORK/put/; dav_methods PUT DELETE; }
			}
			server {
				listen 8081;
				location / { proxy_pass http://origin; }
				location /put/ { proxy_pass http://origin; proxy_request_buffering off; }
				location /packed/ { proxy_pass http://origin; proxy_buffering off; }
				location /tunnel { proxy_pass http://127.0.0.1:8082; proxy_set_header Upgrade echo; proxy_set_header Connection upgrade; }
			}
			server {
				listen 8443 ssl;
				ssl_certificate $WORK/cert.pem;
				ssl_certificate_key $WORK/key.pem;
				location / { proxy_pass http://origin; proxy_request_buffering off; }
			}
		}
	END
}

start_nginx() {
	make_bodies
	make_cert
	nginx_conf
	start nginx -c "$WORK/nginx.conf"
	listens 8080 8081 8443
}

origin_and_proxy() {
	local port status

	start_nginx
	for port in 8080 8081; do
		downloads "port $port" "http://127.0.0.1:$port"
		downloads "port $port, HTTP/1.0" "http://127.0.0.1:$port" --http1.0
		uploads "port $port" "http://127.0.0.1:$port"
		uploads "port $port, 100-continue" "http://127.0.0.1:$port" -H 'Expect: 100-continue' --expect100-timeout 30
		uploads "port $port, chunked" "http://127.0.0.1:$port" -H 'Transfer-Encoding: chunked'
		downloads "port $port, chunked" "http://127.0.0.1:$port/packed" --compressed
		fetch -r 1000-60000 "http://127.0.0.1:$port/65536" -o "$WORK/part"
		result "a part: $(sums "$WORK/part")"
		status=0
		fetch -o /dev/null "http://127.0.0.1:$port/missing" 2>/dev/null || status=$?
		result "none such: exit $status"
	done
	# The client stops reading, and goes: nginx must get rid of it, and serve the next.
	{ fetch "http://127.0.0.1:8081/67108864" 2>/dev/null || true; } | head -c 100000 | cmp - <(head -c 100000 "$BODIES/67108864")
	fetch -o "$WORK/part" http://127.0.0.1:8081/small
	result "after that: $(<"$WORK/part")"
}

origin_and_proxy_ends() {
	state_is "$(command -v nginx)" trusted
	some_joined
	told "curl is $(state_of "$(command -v curl)")"
}

tls() {
	start_nginx
	downloads tls https://127.0.0.1:8443
	uploads tls https://127.0.0.1:8443
	uploads "tls, chunked" https://127.0.0.1:8443 -H 'Transfer-Encoding: chunked'
}

tls_ends() {
	some_joined
	told "curl is $(state_of "$(command -v curl)")"
}

keepalive_and_pipelining() {
	start_nginx
	cat >"$WORK/pipeline.lua" <<-'END'
		init = function(args) local r = {} for i = 1, 16 do r[i] = wrk.format() end requests = table.concat(r) end
		request = function() return requests end
	END
	load_by_wrk 8080 100
	load_by_wrk 8081 100
	load_by_wrk 8080 50 -s "$WORK/pipeline.lua"
	load_by_wrk 8081 50 -s "$WORK/pipeline.lua"
	load_by_wrk 8080 50 -H 'Connection: close'
	# Requests of which answers of a known length are wanted, all sent before one is read.
	pipelined 8080
	pipelined 8081
}

pipelined() {
	local fd i

	exec {fd}<>"/dev/tcp/127.0.0.1/$1"
	for ((i = 0; i < 50; i++)); do
		printf 'GET /%s HTTP/1.1\r\nHost: localhost\r\nConnection: %s\r\n\r\n' "$((i % 2 ? 65536 : 4096))" "$( ((i == 49)) && echo close || echo keep-alive)"
	done >&"$fd"
	timeout 30 cat <&"$fd" >"$WORK/pipelined"
	result "pipelined $1: $(grep -aivE '^(date|last-modified|etag|server):' "$WORK/pipelined" | sha256sum)"
	exec {fd}>&-
}

keepalive_and_pipelining_ends() {
	state_is "$(command -v nginx)" trusted
	some_joined
}

# A tunnel of the kind websockets are, idle for longer than the accelerator's rounds, with others busy meanwhile.
tunnel() {
	local fd line

	start_nginx
	start perl "$BATS_TEST_DIRNAME/echo.pl" 8082
	listens 8082
	exec {fd}<>/dev/tcp/127.0.0.1/8081
	printf 'GET /tunnel HTTP/1.1\r\nHost: localhost\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n' >&"$fd"
	while read -r -t 20 line <&"$fd" && [ "$line" != $'\r' ]; do
		[[ $line =~ ^(Date|Server) ]] || result "$line"
	done
	say_and_hear "$fd" before
	load_by_wrk 8081 50
	sleep 12
	say_and_hear "$fd" "after the pause"
	sleep 6
	for line in {1..200}; do
		say_and_hear "$fd" "line $line"
	done
	exec {fd}>&-
}

say_and_hear() {
	local line

	echo "$2" >&"$1"
	read -r -t 20 line <&"$1"
	result "heard $line"
	[ "$line" = "$2" ]
}

tunnel_ends() {
	some_joined
	told "perl is $(state_of "$(command -v perl)"), bash is $(state_of "$BASH")"
}

setup() {
	need nginx curl wrk openssl perl jq
}

@test "nginx, origin and reverse proxy: downloads and uploads of 0 B to 64 MiB" { TEST_SECONDS=240 inside compare "nginx" origin_and_proxy; }
@test "nginx, TLS: downloads and uploads of 0 B to 64 MiB" { TEST_SECONDS=240 inside compare "nginx, TLS" tls; }
@test "nginx: keepalive, pipelining, a connection a request" { TEST_SECONDS=180 inside compare "nginx and wrk" keepalive_and_pipelining; }
@test "nginx: a tunnel that is idle for long" { TEST_SECONDS=180 inside compare "tunnel" tunnel; }
