# SPDX-License-Identifier: GPL-2.0-or-later
# The network of the packet hook's tests: "client", "lb", "b1" and "b2", each on a link of its own to "lb", which
# routes. Services have addresses that the routes lead to "lb", and that it does not have itself.
# shellcheck shell=bash
# shellcheck source=test/lib/net.bash
. "$(dirname "${BASH_SOURCE[0]}")/net.bash"

vip() {
	if [ "$1" = 4 ]; then echo 198.19.0.5; else echo '[2001:2:0:f::5]'; fi
}

# bare ADDRESS: without brackets.
bare() {
	tr -d '[]' <<<"$1"
}

# backend FAMILY NUMBER
backend() {
	if [ "$1" = 4 ]; then echo "198.18.1$2.2"; else echo "[2001:2:0:1$2::2]"; fi
}

# Each way of forwarding has ports of its own: number FORWARD.
number() {
	case $1 in nat) echo 0 ;; dnat) echo 1 ;; dsr) echo 2 ;; ipip) echo 3 ;; gue) echo 4 ;; esac
}

# port FORWARD PORT: where clients send to.
port() {
	echo $(($2 + $(number "$1")))
}

# listens FORWARD PORT: where backends listen for it.
listens() {
	case $1 in
	nat | dnat) echo "80$(port "$1" "$2")" ;;
	*) port "$1" "$2" ;;
	esac
}

# service FORWARD FAMILY: as the arguments that pk_run wants.
service() {
	local tcp udp

	tcp=$(listens "$1" 80)
	udp=$(listens "$1" 53)
	echo -- tcp "$1" round-robin "$(vip "$2"):$(port "$1" 80)" "$(backend "$2" 1):$tcp" "$(backend "$2" 2):$tcp"
	echo -- udp "$1" round-robin "$(vip "$2"):$(port "$1" 53)" "$(backend "$2" 1):$udp" "$(backend "$2" 2):$udp"
}

in_ns() {
	local ns=$1

	shift
	nsenter --net="/run/netns/$ns" "$@"
}

# link NAME NETWORK: lb has .1 on "l-NAME", NAME has .2 on eth0.
link() {
	ip link add "l-$1" netns lb type veth peer name eth0 netns "$1"
	ip -n lb address add "198.18.$2.1/24" dev "l-$1"
	ip -n lb address add "2001:2:0:$2::1/64" dev "l-$1" nodad
	ip -n "$1" address add "198.18.$2.2/24" dev eth0
	ip -n "$1" address add "2001:2:0:$2::2/64" dev eth0 nodad
	ip -n lb link set "l-$1" up
	ip -n "$1" link set eth0 up
	ip -n "$1" route add default via "198.18.$2.1"
	ip -n "$1" route add default via "2001:2:0:$2::1"
	# XDP does not see that a checksum is yet to be filled in; and what XDP sends to a veth is received by NAPI only.
	in_ns "$1" ethtool -K eth0 tx off gro on >/dev/null
	in_ns lb ethtool -K "l-$1" tx off gro on >/dev/null
}

network() {
	local ns

	mount -t bpf bpf /sys/fs/bpf
	for ns in client lb b1 b2; do
		netns_new "$ns"
		in_ns "$ns" sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
	done
	in_ns lb sysctl -qw net.ipv4.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=1
	link client 1
	# Not a backend: but its veth has to have a program too.
	in_ns client "$WAGGLE" backend setup --interface eth0 --address 198.19.0.99
	mv /sys/fs/bpf/waggle/pk_decap@eth0 /sys/fs/bpf/waggle/decap_client
	link b1 11
	link b2 12
}

# An HTTP server and a UDP echo in each, on the ports of every way of forwarding.
backends() {
	local b forward

	head -c 3000000 /dev/urandom >"$WORK/body"
	for b in b1 b2; do
		# What its program sends by XDP_TX, a veth gets only if it has a program itself: this is one.
		in_ns "$b" "$WAGGLE" backend setup --interface eth0 --address "$(vip 4)" --address "$(bare "$(vip 6)")"
		mv /sys/fs/bpf/waggle/pk_decap@eth0 "/sys/fs/bpf/waggle/decap_$b"
		mkdir "$WORK/$b"
		cat >"$WORK/$b/nginx.conf" <<-END
			daemon off;
			user root;
			worker_processes 1;
			pid $WORK/$b/nginx.pid;
			error_log $WORK/$b/nginx.err;
			events { worker_connections 1024; }
			http {
				access_log off;
				client_body_temp_path $WORK/$b/body;
				proxy_temp_path $WORK/$b/proxy;
				fastcgi_temp_path $WORK/$b/fastcgi;
				uwsgi_temp_path $WORK/$b/uwsgi;
				scgi_temp_path $WORK/$b/scgi;
				client_max_body_size 100m;
				server {
					$(for forward in nat dnat dsr ipip gue; do
						echo "listen $(listens $forward 80); listen [::]:$(listens $forward 80);"
					done)
					root $WORK;
					location = / { return 200 "$b"; }
					location = /client { return 200 "\$remote_addr"; }
					location /put/ { alias $WORK/$b/; dav_methods PUT; }
				}
			}
		END
		in_ns "$b" nginx -c "$WORK/$b/nginx.conf" &
		for forward in nat dnat dsr ipip gue; do
			in_ns "$b" python3 -c "$UDP_ECHO" 4 "$(listens $forward 53)" &
			in_ns "$b" python3 -c "$UDP_ECHO" 6 "$(listens $forward 53)" &
		done
		until_true 20 in_ns "$b" curl -fsS --max-time 2 "http://$(backend 4 "${b#b}"):$(listens nat 80)/"
	done
}

# Answers from the address that was sent to, whichever of its host it is.
export UDP_ECHO='
import socket, sys
v6 = sys.argv[1] == "6"
s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(41 if v6 else 0, 49 if v6 else 8, 1)
if v6:
    s.setsockopt(41, 26, 1)
s.bind(("::" if v6 else "0.0.0.0", int(sys.argv[2])))
while True:
    data, anc, flags, who = s.recvmsg(65535, 512)
    info = anc[0][2]
    if v6:
        s.sendmsg([data], [(41, 50, info[:16] + bytes(4))], 0, who)
    else:
        s.sendmsg([data], [(0, 8, bytes(4) + info[8:12] + bytes(4))], 0, who)
'

# A server that speaks first, on port 2525. FAMILY.
export BANNER='
import socket, sys, threading
v6 = sys.argv[1] == "6"
def serve(c):
    c.sendall(b"220 banner\r\n")
    line = c.recv(4096)
    c.sendall(b"you said " + line)
    c.close()
s = socket.create_server(("::" if v6 else "0.0.0.0", 2525), family=socket.AF_INET6 if v6 else socket.AF_INET)
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
'

export UDP_ASK='
import os, socket, sys
host, port, size, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
s.connect((host, port))
for i in range(n):
    data = os.urandom(size)
    for attempt in range(10):
        s.send(data)
        try:
            while s.recv(65535) != data:
                pass
            break
        except socket.timeout:
            continue
    else:
        sys.exit("no answer to %d bytes" % size)
'

# balancer HOOK SERVICE...: waits until it is attached. Sets BALANCER.
balancer() {
	local hook=$1 tries=1500

	shift
	: >"$WORK/balancer.out"
	(
		exec nsenter --net=/run/netns/lb "$TOOLS/pk_run" "l-client:$hook" "l-b1:$hook" "l-b2:$hook" "$@"
	) >"$WORK/balancer.out" 2>"$WORK/balancer.err" &
	BALANCER=$!
	until grep -q '^ready' "$WORK/balancer.out"; do
		if ((tries-- == 0)) || ! kill -0 "$BALANCER" 2>/dev/null; then
			echo "the balancer did not come up: $(cat "$WORK/balancer.err")" >&2
			return 1
		fi
		sleep 0.02
	done
	# Each interface is served as was asked.
	[ "$(grep -c ": $hook: " "$WORK/balancer.out")" = 3 ]
}

# The balancer knows its neighbours: generic XDP cannot ask for them.
neighbours() {
	in_ns lb busybox ping -c 1 -W 5 "$(bare "$(backend "$1" 1)")"
	in_ns lb busybox ping -c 1 -W 5 "$(bare "$(backend "$1" 2)")"
	in_ns client busybox ping -c 1 -W 5 "$([ "$1" = 4 ] && echo 198.18.1.1 || echo 2001:2:0:1::1)"
}

balancer_stop() {
	kill -TERM "$BALANCER"
	wait "$BALANCER"
}

# Prints counts and connections.
balancer_look() {
	local ends

	ends=$(grep -c '^end' "$WORK/balancer.out" || true)
	kill -USR1 "$BALANCER"
	until_true 10 balancer_has_ended "$ends"
	tac "$WORK/balancer.out" | awk '/^end/ { n++ } n == 2 { exit } { print }' | tac
}

balancer_has_ended() {
	[ "$(grep -c '^end' "$WORK/balancer.out")" -gt "$1" ]
}

# count REASON
count() {
	balancer_look | awk -v r="$1" '$1 == "count" && $2 == r { n = $3 } END { print n + 0 }'
}

# From the client, or from the namespace that FROM names.
get() {
	in_ns "${FROM:-client}" curl -fsS --max-time 20 "$@"
}

# both_answer FORWARD FAMILY: many connections, every one is answered, and both backends have their part.
both_answer() {
	local i

	for i in $(seq 10); do
		get "http://$(vip "$2"):$(port "$1" 80)/"
		echo
	done >"$WORK/answers"
	if [ "$(sort -u "$WORK/answers" | tr '\n' ' ')" != "b1 b2 " ] || [ "$(wc -l <"$WORK/answers")" != 10 ]; then
		cat "$WORK/answers" >&2
		return 1
	fi
}

# large_bodies FORWARD FAMILY: three megabytes down and up, compared.
large_bodies() {
	local b found=0 url

	url=http://$(vip "$2"):$(port "$1" 80)
	get "$url/body" | cmp - "$WORK/body"
	get -T "$WORK/body" "$url/put/upload"
	for b in b1 b2; do
		if [ -e "$WORK/$b/upload" ]; then
			cmp "$WORK/$b/upload" "$WORK/body"
			rm "$WORK/$b/upload"
			found=1
		fi
	done
	[ "$found" = 1 ]
}

# udp_echo FORWARD FAMILY SIZE
udp_echo() {
	in_ns client python3 -c "$UDP_ASK" "$(bare "$(vip "$2")")" "$(port "$1" 53)" "$3" 10
}

ping_answers() {
	in_ns client busybox ping -c 2 -W 5 "$(bare "$(vip "$1")")"
}

# What is not a service's goes on as before.
own_traffic() {
	in_ns client busybox ping -c 1 -W 5 "$(bare "$(backend "$1" 1)")"
	in_ns client busybox ping -c 1 -W 5 "$([ "$1" = 4 ] && echo 198.18.1.1 || echo 2001:2:0:1::1)"
}

# Starts waggle run on $CONFIG in "lb", and waits until it is ready. Sets RUN.
started() {
	: >"$WORK/run.out"
	(exec nsenter --net=/run/netns/lb "$WAGGLE" run -c "$CONFIG") >"$WORK/run.out" 2>>"$WORK/run.err" &
	RUN=$!
	until_true 60 is_ready
}

is_ready() {
	grep -qx ready "$WORK/run.out" || { kill -0 "$RUN" || cat "$WORK/run.err"; return 1; } >&2
}
