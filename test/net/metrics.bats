#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# /metrics of `waggle run`: what promtool and a real Prometheus make of it, and what it says.

load ../lib/net.bash
load ../lib/run.bash

export AT=127.0.0.1:9469
export EXAMPLES=$BATS_TEST_DIRNAME/../../examples

# web LINE...: a service with these backends and checks of them, and the metrics on $AT.
web() {
	{
		printf 'services:\n  - name: web\n    listen: 198.18.0.5:80\n    scheduler: round-robin\n'
		printf '    health: { tcp: true, interval: 1s, timeout: 1s }\n    backends:\n'
		printf '      - %s\n' "$@"
	} | config "metrics: { listen: '$AT' }" "$(more)"
}

more() {
	:
}

metrics_up() {
	run_addresses
	backend_start 198.18.0.2 8080
	backend_start 198.18.0.3 8080
	web 198.18.0.2:8080 198.18.0.3:8080
	run_start
}

scrape() {
	curl -sS --fail --max-time 20 "http://$AT/metrics"
}

# metric_is NAME{LABELS} VALUE
metric_is() {
	local now
	now=$(scrape | awk -v name="$1" 'index($0, name " ") == 1 { print $NF }')
	if [ "$now" != "$2" ]; then
		echo "$1 is '$now', not '$2'" >&2
		return 1
	fi
}

# status METHOD PATH
status() {
	curl -s -o /dev/null -w '%{http_code}' --max-time 20 -X "$1" "http://$AT$2"
}

counts_what_happens() {
	metrics_up
	until_true 15 metric_is 'waggle_backend_state{service="web",backend="198.18.0.2:8080",state="up"}' 1
	scrape | promtool check metrics
	metric_is 'waggle_service_up{service="web"}' 1
	metric_is 'waggle_services{state="up"}' 1
	metric_is 'waggle_backend_picks_total{service="web",backend="198.18.0.2:8080"}' 0
	[ "$(who http://198.18.0.5/ 20)" = $'10 198.18.0.2\n10 198.18.0.3' ]
	until_true 10 metric_is 'waggle_backend_picks_total{service="web",backend="198.18.0.2:8080"}' 10
	metric_is 'waggle_lb_picked_total' 20
	metric_is 'waggle_backend_check_success{service="web",backend="198.18.0.3:8080"}' 1
	kill -KILL "$BACKEND"
	until_true 20 metric_is 'waggle_backend_state{service="web",backend="198.18.0.3:8080",state="down"}' 1
	metric_is 'waggle_service_backends{service="web",state="down"}' 1
	metric_is 'waggle_backend_check_success{service="web",backend="198.18.0.3:8080"}' 0
	"$WAGGLE" drain web 198.18.0.2:8080
	until_true 10 metric_is 'waggle_service_up{service="web"}' 0
	metric_is 'waggle_metrics_omitted_backends' 0
	metric_is 'waggle_hook_on{hook="connect"}' 1
	run_stop
}

# What the control API says is what the metrics say.
agrees_with_api() {
	local key value

	metrics_up
	who http://198.18.0.5/ 7 >/dev/null
	while IFS=$'\t' read -r key value; do
		until_true 10 metric_is "waggle_lb_${key//-/_}_total" "$value"
	done < <(api /v1/status | jq -r '.balancing.counters | to_entries[] | [.key, .value] | @tsv')
	metric_is waggle_lb_picked_total 7
	run_stop
}

answers_readers_only() {
	metrics_up
	[ "$(status GET /metrics)" = 200 ]
	[ "$(status GET /nothing)" = 404 ]
	[ "$(status GET /v1/sockets)" = 404 ]
	[ "$(status POST /metrics)" = 405 ]
	[ "$(status DELETE /metrics)" = 405 ]
	[ "$(status PUT /v1/reload)" = 405 ]
	curl -sS --max-time 20 -I "http://$AT/metrics" >"$WORK/head"
	grep -qi '^Content-Type: text/plain; version=0.0.4' "$WORK/head"
	[ "$(curl -s -o /dev/null -w '%{http_code}' --max-time 20 --data x=y "http://$AT/metrics")" = 405 ]
	curl -sS --max-time 20 -X POST -D "$WORK/head" -o /dev/null "http://$AT/metrics"
	grep -qi '^Allow: GET, HEAD' "$WORK/head"
	run_stop
}

# Whoever holds connections open keeps others out only until the server hangs up.
holders_are_hung_up_on() {
	local fds=() fd i

	metrics_up
	for ((i = 0; i < 40; i++)); do
		exec {fd}<>"/dev/tcp/127.0.0.1/9469"
		fds+=("$fd")
	done
	until_true 40 scrape
	api /v1/status >/dev/null
	for fd in "${fds[@]}"; do
		exec {fd}>&-
	done
	run_stop
}

address_is_reloaded() {
	metrics_up
	scrape >/dev/null
	AT=127.0.0.1:9470
	web 198.18.0.2:8080
	"$WAGGLE" reload
	metric_is 'waggle_config_reloads_total{result="success"}' 1
	! answers 127.0.0.1 9469
	AT='[::1]:9470'
	web 198.18.0.2:8080
	"$WAGGLE" reload
	scrape >/dev/null
	! answers 127.0.0.1 9470
	# One that somebody else has: it stays where it is, and says so.
	AT=198.18.0.2:8080
	sed -i "s/^metrics:.*/metrics: { listen: '$AT', allow-remote: true }/" "$CONFIG"
	"$WAGGLE" reload >"$WORK/reload" 2>&1
	grep -q "metrics: cannot listen on 198.18.0.2:8080: Address already in use" "$WORK/reload"
	AT='[::1]:9470'
	scrape >/dev/null
	sed -i '/^metrics:/d' "$CONFIG"
	"$WAGGLE" reload
	! answers ::1 9470
	run_stop
}

no_start_without_the_address() {
	run_addresses
	backend_start 127.0.0.1 9469
	web 198.18.0.2:8080
	! timeout 30 "$WAGGLE" run -c "$CONFIG" 2>"$WORK/run.err"
	grep -q "metrics: cannot listen on 127.0.0.1:9469: Address already in use" "$WORK/run.err"
}

# A bound on what is told, however many there are.
many_backends_are_summed() {
	run_addresses
	backend_start 198.18.0.2 8080
	{
		printf 'services:\n  - { name: web, listen: "198.18.0.5:80", backends: [ "198.18.0.2:8080" ] }\n'
		big_service
	} | config "metrics: { listen: '$AT' }"
	run_start
	[ "$(who http://198.18.0.5/ 5)" = "5 198.18.0.2" ]
	until_true 10 metric_is 'waggle_service_picks_total{service="web"}' 5
	metric_is 'waggle_service_backends{service="big",state="up"}' 1000
	metric_is waggle_metrics_omitted_backends 1001
	scrape >"$WORK/text"
	! grep -q '^waggle_backend_' "$WORK/text"
	promtool check metrics <"$WORK/text"
	(($(wc -l <"$WORK/text") < 400))
	run_stop
}

prom() {
	curl -sS --fail --max-time 20 --data-urlencode "query=$1" http://127.0.0.1:9090/api/v1/query |
		jq -r '.data.result[0].value[1]'
}

prom_is() {
	[ "$(prom "$1")" = "$2" ]
}

real_prometheus() {
	local prometheus

	metrics_up
	cat >"$WORK/prometheus.yml" <<-EOF
		global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }
		rule_files: [ "$EXAMPLES/alerts.yaml" ]
		scrape_configs: [ { job_name: waggle, static_configs: [ { targets: [ "$AT" ] } ] } ]
	EOF
	promtool check config "$WORK/prometheus.yml"
	timeout 80 prometheus --config.file="$WORK/prometheus.yml" --storage.tsdb.path="$WORK/tsdb" \
		--web.listen-address=127.0.0.1:9090 --log.level=error 2>"$WORK/prometheus.err" &
	prometheus=$!
	until_true 30 prom_is 'up{job="waggle"}' 1
	who http://198.18.0.5/ 8 >/dev/null
	until_true 20 prom_is 'sum by (service) (waggle_backend_picks_total)' 8
	until_true 20 prom_is 'waggle_build_info' 1
	"$WAGGLE" drain web 198.18.0.2:8080
	"$WAGGLE" drain web 198.18.0.3:8080
	# The rule that comes with waggle fires.
	until_true 40 prom_is 'ALERTS{alertname="WaggleServiceDown",alertstate="firing",service="web"}' 1
	kill -TERM "$prometheus"
	wait "$prometheus" || true
	run_stop
}

# A configuration in which every hook is wanted.
every_hook() {
	cat <<-EOF
		accelerate: { cgroups: [ "$SCOPE" ] }
		packet: { interfaces: [ { name: veth0, hook: tc } ] }
		redirect: [ { cgroup: "$CG/app", to: "127.0.0.1:15001" } ]
		policy: [ { action: deny, from: [ "$CG/app" ], to: [ 198.18.0.4/32 ] } ]
	EOF
}

# What the hooks tell is told: each of their words, with what the control API has counted.
hooks_are_told() {
	local reason n

	more() { every_hook; }
	mkdir "$CG/app"
	ip link add veth0 type veth peer name veth1
	ip link set veth0 up
	metrics_up
	metric_is 'waggle_packet_interface_info{interface="veth0",hook="tc"}' 1
	metric_is 'waggle_redirect_missing_cgroups' 0
	metric_is "waggle_redirect_entry_connections_total{entry=\"0\",cgroup=\"$CG/app\"}" 0
	# Nobody listens at 127.0.0.1:15001: refused.
	in_app bash -c 'exec 3<>/dev/tcp/198.18.0.2/8080' 2>"$WORK/refused" && return 1
	until_true 10 metric_is waggle_redirect_refused_total 1
	in_app bash -c 'exec 3<>/dev/tcp/198.18.0.4/8080' 2>"$WORK/denied" && return 1
	until_true 10 metric_is waggle_policy_denied_total 1
	until_true 10 metric_is 'waggle_policy_entry_decisions_total{entry="0",action="deny"}' 1
	scrape >"$WORK/text"
	while IFS=$'\t' read -r reason n; do
		grep -qE "^waggle_packet_packets_total\{result=\"(sent|passed|dropped)\",reason=\"$reason\"\} [0-9]+$" "$WORK/text" ||
			{ echo "nothing is told of $reason" >&2; return 1; }
	done < <(api /v1/status | jq -r '.hooks[] | select(.name == "packet") | .counters | to_entries[] | [.key, .value] | @tsv')
	promtool check metrics <"$WORK/text"
	run_stop
}

in_app() {
	(
		echo "$BASHPID" >"$CG/app/cgroup.procs"
		exec "$@"
	)
}

# A histogram: its buckets rise, the last one is all, and every connect is in it once. Connects to what is no service are not.
times_are_counted() {
	metrics_up
	until_true 10 metric_is waggle_connect_duration_seconds_count 0
	who http://198.18.0.5/ 12 >/dev/null
	who http://198.18.0.2:8080/ 3 >/dev/null
	until_true 10 metric_is waggle_connect_duration_seconds_count 12
	until_true 10 metric_is 'waggle_connect_duration_seconds_bucket{le="+Inf"}' 12
	scrape >"$WORK/text"
	promtool check metrics <"$WORK/text"
	awk '/^waggle_connect_duration_seconds_bucket/ { fell += $NF < was; was = $NF; n++ } END { exit fell || n < 20 }' "$WORK/text"
	# Loopback takes some time, and less than a minute.
	awk '/^waggle_connect_duration_seconds_sum/ { good = $NF > 0 && $NF < 60 } END { exit !good }' "$WORK/text"
	# What is counted outlives the daemon.
	run_stop
	run_start
	until_true 10 metric_is waggle_connect_duration_seconds_count 12
	who http://198.18.0.5/ 1 >/dev/null
	until_true 10 metric_is waggle_connect_duration_seconds_count 13
	run_stop
}

# Round trips on joined pairs are a sample: some of those that there were, none before there are any, and all of their buckets.
trips_are_sampled() {
	more() { printf 'accelerate: { cgroups: [ %s ], trust: [ %s, %s ] }\n' "$CG" "$TOOLS/httpd" "$(command -v wrk)"; }
	metrics_up
	metric_is waggle_accel_round_trip_seconds_count 0
	wrk -t 1 -c 4 -d 60 http://198.18.0.5/ >/dev/null 2>&1 &
	LOAD=$!
	until_true 50 trips_are_counted
	kill -TERM "$LOAD"
	wait "$LOAD" 2>/dev/null || true
	promtool check metrics <"$WORK/text"
	awk '/^waggle_accel_round_trip_seconds_bucket/ { fell += $NF < was; was = $NF; n++ } END { exit fell || n < 20 }' "$WORK/text"
	awk '/^waggle_accel_round_trip_seconds_sum/ { good = $NF > 0 && $NF < 600 } END { exit !good }' "$WORK/text"
	run_stop
}

trips_are_counted() {
	scrape >"$WORK/text"
	awk '/^waggle_accel_round_trip_seconds_count/ { good = $NF >= 5 } END { exit !good }' "$WORK/text"
}

# Every series that the dashboard and the rules ask for is one that is told.
examples_ask_for_what_is_told() {
	local name

	more() { every_hook; }
	ip link add veth0 type veth peer name veth1
	ip link set veth0 up
	metrics_up
	scrape >"$WORK/text"
	promtool check metrics <"$WORK/text"
	grep -q '^waggle_accel_sockets{state="joined"} ' "$WORK/text"
	grep -q '^waggle_accel_not_joined_sockets{reason="learning"} ' "$WORK/text"
	promtool check rules "$EXAMPLES/alerts.yaml"
	jq -e '.panels | length > 5' "$EXAMPLES/grafana-dashboard.json" >/dev/null
	for name in $({ jq -r '.panels[].targets[].expr, .templating.list[].definition? // empty' "$EXAMPLES/grafana-dashboard.json"
		grep -v summary "$EXAMPLES/alerts.yaml"; } | grep -oE 'waggle_[a-z_]+' |
		sed -E 's/_seconds_(bucket|count|sum)$/_seconds/' | sort -u); do
		# These take the place of the backends' own where there are too many.
		[[ $name == waggle_service_@(picks|failures|bytes)_total ]] && continue
		grep -qE "^# TYPE $name " "$WORK/text" || { echo "nothing is told of $name" >&2; return 1; }
	done
	run_stop
}

@test "metrics count picks, checks, states and drains, and promtool finds nothing wrong" { inside counts_what_happens; }
@test "metrics and the control API agree" { inside agrees_with_api; }
@test "packets, redirects and policy are counted" { inside hooks_are_told; }
@test "round trips on joined pairs are sampled into a histogram" { inside trips_are_sampled; }
@test "times of connects are a histogram, which outlives the daemon" { inside times_are_counted; }
@test "only GET and HEAD are answered" { inside answers_readers_only; }
@test "who holds all connections of the metrics is hung up on" { inside holders_are_hung_up_on; }
@test "a reload moves the metrics, and switches them off" { inside address_is_reloaded; }
@test "no start without the address of the metrics" { inside no_start_without_the_address; }
@test "above 1000 backends there are sums by service" { inside many_backends_are_summed; }
@test "a real Prometheus scrapes it, and a rule fires" { inside real_prometheus; }
@test "dashboard and rules ask for what is told" { inside examples_ask_for_what_is_told; }
