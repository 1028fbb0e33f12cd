#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# waggle check, as people and scripts use it.

load ../lib/net.bash

setup() {
	D=$BATS_TEST_TMPDIR
}

# A line of a block of an example begins with a section: then it is a whole configuration.
@test "every example and every configuration in the manual is right" {
	local root=$BATS_TEST_DIRNAME/../.. n=0 file

	python3 - "$root/docs/man/waggle.yaml.5.rst" "$D" <<-'END'
		import re, sys, textwrap
		text = open(sys.argv[1], encoding="utf-8").read()
		for i, block in enumerate(re.findall(r"::\n\n((?:(?:  .*)?\n)+)", text)):
		    open("%s/manual-%d.yaml" % (sys.argv[2], i), "w").write(textwrap.dedent(block))
	END
	for file in "$root"/examples/*.yaml "$D"/manual-*.yaml; do
		# Prometheus's, not ours.
		[[ $file != */alerts.yaml ]] || continue
		# `check` does not read what everybody may write, as some ways of unpacking make it.
		"$WAGGLE" check -c /dev/stdin < <(cat "$file") >"$D/out" || { echo "$file is not right"; return 1; }
		grep -q ' right: ' "$D/out"
		n=$((n + 1))
	done
	[ "$n" -ge 10 ]
}

@test "what is wrong: a line each on stderr with its place, exit 2, nothing on stdout" {
	cat >"$D/bad.yaml" <<-'END'
		services:
		  - name: web
		    listen: 198.18.0.5
		    schedular: maglev
		    backends: [ 198.18.0.2:80, 198.18.0.2:80 ]
		metrics: { listen: 198.18.0.1:9469 }
	END
	chmod 644 "$D/bad.yaml"
	local code=0
	"$WAGGLE" check --config "$D/bad.yaml" >"$D/out" 2>"$D/err" || code=$?
	[ "$code" = 2 ]
	[ ! -s "$D/out" ]
	diff - "$D/err" <<-END
		$D/bad.yaml:3:13: '198.18.0.5' has no port: add it, as in 198.18.0.5:80
		$D/bad.yaml:4:5: unknown key 'schedular' in a service: write scheduler
		$D/bad.yaml:5:32: backend '198.18.0.2:80' is there twice, first at $D/bad.yaml:5:17: keep one, and give it a weight
		$D/bad.yaml:6:20: anybody who reaches this address could read the metrics: listen on 127.0.0.1, or add allow-remote: true
	END
}

@test "what cannot be read: one line, exit 2" {
	local args code
	for args in "" "-c" "-c $D/none.yaml" "-c $D" "-c $D/a -c" "operand" "-x"; do
		code=0
		# shellcheck disable=SC2086 # words
		"$WAGGLE" check $args >"$D/out" 2>"$D/err" || code=$?
		[ "$code" = 2 ] || { echo "check $args: exit $code"; return 1; }
		[ ! -s "$D/out" ]
		[ "$(wc -l <"$D/err")" = 1 ]
		grep -q '^waggle: check: ' "$D/err"
	done
}

@test "--json prints every default, and what it prints reads as the same" {
	printf 'services: [ { name: web, listen: eth0:80, backends: [ web.example.org:80 ] } ]\n' |
		"$WAGGLE" check -c /dev/stdin --json >"$D/one.json"
	[ "$(jq -r '.services[0].scheduler, .services[0].backends[0].weight, .connect.cgroups[0]' "$D/one.json" | tr '\n' ' ')" = \
		"round-robin 1 / " ]
	chmod 644 "$D/one.json"
	"$WAGGLE" check -c "$D/one.json" --json | diff "$D/one.json" -
}

@test "files of a folder are included, and what is wrong there is told with its file" {
	mkdir -m 755 "$D/services.d"
	echo 'include: services.d' >"$D/waggle.yaml"
	echo 'services: [ { name: a, listen: 198.18.0.5:80, backends: [] } ]' >"$D/services.d/a.yaml"
	echo 'services: [ { name: b, listen: 198.18.0.6:80, backends: [ 198.18.0.2:80 ] } ]' >"$D/services.d/b.yaml"
	chmod 644 "$D/waggle.yaml" "$D"/services.d/*
	(cd "$D" && "$WAGGLE" check -c waggle.yaml) | grep -x 'waggle.yaml: right: 2 services with 1 backend, from 3 files'
	echo 'include: .' >>"$D/services.d/b.yaml"
	local code=0
	(cd "$D" && "$WAGGLE" check -c waggle.yaml 2>err) || code=$?
	[ "$code" = 2 ]
	[ "$(wc -l <"$D/err")" = 1 ]
	grep -q "^services.d/b.yaml:2:1: unknown key 'include' in an included file: " "$D/err"
}

@test "200 random configurations are accepted and said back, 400 damaged ones are accepted or refused in good order" {
	python3 "$BATS_TEST_DIRNAME/../lib/check_random" "$WAGGLE" "$D" 1 200 2 | tee "$D/out"
	grep -q '^200 right, 400 damaged: ' "$D/out"
}
