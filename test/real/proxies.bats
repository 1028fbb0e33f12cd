#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Proxies that splice, or could: docker-proxy, two of Go, haproxy with and without option splice-auto. Where the kernel
# tells of a splice in time (class full), what never splices is joined; elsewhere what could splice stays on TCP.

load ../lib/net.bash
load real.bash
load bodies.bash

start_origin() {
	make_bodies
	make_cert
	mkdir -p "$WORK/put"
	cat >"$WORK/nginx.conf" <<-END
		user root;
		daemon off;
		worker_processes 1;
		pid $WORK/nginx.pid;
		error_log $WORK/nginx.err warn;
		events { worker_connections 1024; }
		http {
			access_log off;
			client_max_body_size 0;
			client_body_temp_path $WORK/temp1;
			keepalive_requests 1000000000;
			server {
				listen 8080;
				root $BODIES;
				location /small { return 200 "hello"; }
				location /put/ { alias $WORK/put/; dav_methods PUT DELETE; }
			}
		}
	END
	start nginx -c "$WORK/nginx.conf"
	listens 8080
}

# carried PORT NAME [CURL OPTION...]: all there is to be carried by one proxy.
carried() {
	downloads "$2" "http://127.0.0.1:$1" "${@:3}"
	uploads "$2" "http://127.0.0.1:$1" "${@:3}"
	uploads "$2, 100-continue" "http://127.0.0.1:$1" -H 'Expect: 100-continue' --expect100-timeout 30 "${@:3}"
	uploads "$2, chunked" "http://127.0.0.1:$1" -H 'Transfer-Encoding: chunked' "${@:3}"
	load_by_wrk "$1" 32
}

# left_on_tcp FILE: it was seen to splice, or could do so and this kernel could not tell.
left_on_tcp() {
	if [ "$(class)" = full ]; then
		state_is "$1" splices
	else
		state_is "$1" splices may-splice
	fi
	told "$(basename "$1") is $(state_of "$1") on a kernel of class $(class)"
	none_joined
}

docker_proxy() {
	start_origin
	start /usr/sbin/docker-proxy -proto tcp -host-ip 127.0.0.1 -host-port 8090 -container-ip 127.0.0.1 -container-port 8080
	listens 8090
	carried 8090 docker-proxy
}

docker_proxy_ends() {
	left_on_tcp /usr/sbin/docker-proxy
}

# Built once: GO_PROXY MODE LISTEN TARGET.
build_go_proxy() {
	GO_PROXY=$WORK/go-proxy
	[ ! -e "$GO_PROXY" ] || return 0
	env GOCACHE="$WORK/go-cache" GOPATH="$WORK/go" HOME="$WORK" GO111MODULE=off GOFLAGS= CGO_ENABLED=0 \
		go build -o "$GO_PROXY" "$BATS_TEST_DIRNAME/proxy.go"
}

go_proxy() {
	start_origin
	build_go_proxy
	start "$GO_PROXY" headers 127.0.0.1:8091 127.0.0.1:8080
	start "$GO_PROXY" reverse 127.0.0.1:8092 127.0.0.1:8080
	listens 8091 8092
	carried 8091 "headers, then spliced bodies"
	carried 8092 "net/http/httputil"
}

go_proxy_ends() {
	left_on_tcp "$GO_PROXY"
}

start_haproxy() {
	start_origin
	cat >"$WORK/haproxy.cfg" <<-END
		global
			maxconn 1000
		defaults
			timeout connect 30s
			timeout client 60s
			timeout server 60s
			$1
		frontend http
			mode http
			bind 127.0.0.1:8093
			default_backend origin
		frontend tls
			mode http
			bind 127.0.0.1:8443 ssl crt $WORK/both.pem
			default_backend origin
		backend origin
			mode http
			http-reuse always
			server one 127.0.0.1:8080
		listen tcp
			mode tcp
			bind 127.0.0.1:8094
			server one 127.0.0.1:8080
	END
	start haproxy -db -f "$WORK/haproxy.cfg"
	listens 8093 8094 8443
}

haproxy_plain() {
	start_haproxy ""
	carried 8093 "mode http"
	carried 8094 "mode tcp"
	downloads tls https://127.0.0.1:8443
	uploads tls https://127.0.0.1:8443
}

haproxy_plain_ends() {
	if [ "$(class)" = full ]; then
		state_is "$(command -v haproxy)" trusted
		some_joined
	else
		left_on_tcp "$(command -v haproxy)"
	fi
}

haproxy_splice() {
	start_haproxy "option splice-auto"
	carried 8093 "mode http"
	carried 8094 "mode tcp"
}

haproxy_splice_ends() {
	left_on_tcp "$(command -v haproxy)"
}

setup() {
	need nginx curl wrk jq openssl
}

@test "docker-proxy" { need /usr/sbin/docker-proxy; TEST_SECONDS=300 inside compare "docker-proxy" docker_proxy; }
@test "Go: a proxy that reads headers and splices bodies, and the library's own" { need go; TEST_SECONDS=400 inside compare "Go proxies" go_proxy; }
@test "haproxy" { need haproxy; TEST_SECONDS=400 inside compare "haproxy" haproxy_plain; }
@test "haproxy with option splice-auto" { need haproxy; TEST_SECONDS=400 inside compare "haproxy, splice-auto" haproxy_splice; }
