#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Completion: what Tab does in bash, by the function that bash calls for it; and in a bash, a zsh and a fish on a terminal.

load ../lib/net.bash
load ../lib/run.bash

# complete_line LINE: the replies, one a line, sorted. As readline calls it, but for its splitting of words.
complete_line() {
	COMP_LINE=$1 COMP_POINT=${#1} WAGGLE=$WAGGLE bash -c '
		waggle() { "$WAGGLE" "$@"; }
		source <("$WAGGLE" completion bash)
		complete -p waggle >/dev/null
		COMP_WORDBREAKS=$'"' \\t\\n\"\\'><=;|&(:'"'
		_waggle
		((${#COMPREPLY[@]} == 0)) || printf "%s\n" "${COMPREPLY[@]}"
	' | sort
}

# replies LINE WORD...
replies() {
	local is
	is=$(complete_line "$1")
	shift
	[ "$is" = "$(printf '%s\n' "$@")" ] || { echo "replies are '$is', not '$*'" >&2; return 1; }
}

commands_and_options() {
	local command

	replies 'waggle dra' drain
	replies 'waggle s' sockets status
	replies 'waggle --v' --version
	replies 'waggle drain --' --help --wait
	replies 'waggle completion z' zsh
	replies 'waggle drain --wait ' ''
	replies 'waggle bench poli' policy
	replies 'waggle explain --protocol ' tcp udp
	replies 'waggle top --view p' pairs
	replies 'waggle trace --json --event proxy' proxy-down
	# Each benchmark, and each event of the manual.
	[ "$(complete_line 'waggle bench ')" = "$("$WAGGLE" bench | awk '/^[a-z]/ { print $1 }' | sort)" ]
	# Each command and each option of its help.
	[ "$(complete_line 'waggle ')" = "$({ "$WAGGLE" --help | sed -nE '/^Commands:/,/^$/s/^  ([a-z]+) .*/\1/p'
		printf '%s\n' --help --version; } | sort)" ]
	for command in $("$WAGGLE" --help | sed -nE '/^Commands:/,/^$/s/^  ([a-z]+) .*/\1/p'); do
		[ "$(complete_line "waggle $command --")" = "$("$WAGGLE" "$command" --help | sed -nE 's/^  (--[a-z-]+)( .*)?/\1/p' | sort)" ]
	done
}

files() {
	cd "$WORK" || return 1
	mkdir sub
	: >some.yaml
	replies 'waggle check --config so' some.yaml
	replies 'waggle check -c s' some.yaml sub
}

names() {
	run_addresses
	config <<-EOF
		services:
		  - { name: web, listen: "198.18.0.5:80", backends: [ "198.18.0.2:8080", "198.18.0.3:8080" ] }
		  - { name: api, listen: "198.18.0.6:80", backends: [ "198.18.0.3:8081" ] }
	EOF
	run_start
	replies 'waggle drain ' api web
	replies 'waggle drain --wait 5 w' web
	replies 'waggle enable api ' 198.18.0.3:8081
	replies 'waggle drain web 198.18.0.3' 198.18.0.3:8080
	replies 'waggle trace --service a' api
	# After a colon bash wants the rest of the word only.
	replies 'waggle drain web 198.18.0.2:80' 8080
	run_stop
	replies 'waggle drain ' ''
}

mux() {
	tmux -f /dev/null -S "$WORK/tmux" "$@"
}

line() {
	mux capture-pane -p -t c >"$WORK/screen" && grep -qE -- "$1" "$WORK/screen"
}

# terminal SHELL...: on a terminal, with waggle in its path; when it says that it is ready.
terminal() {
	mkdir -p "$WORK/bin"
	ln -s "$WAGGLE" "$WORK/bin/waggle"
	PATH=$WORK/bin:$PATH HOME=$WORK XDG_CONFIG_HOME=$WORK XDG_DATA_HOME=$WORK mux new-session -d -s c -x 100 -y 20 "$@"
	until_true 30 line '^is ready'
}

# tab TYPED LINE: what the Tab key makes of it.
tab() {
	mux send-keys -t c C-u
	mux send-keys -t c "$1" Tab
	until_true 30 line "^> $2\$" || { cat "$WORK/screen" >&2; return 1; }
}

# What every shell must make of these; bash can do more, see above.
tabs() {
	tab 'waggle rel' 'waggle reload'
	tab 'waggle check --js' 'waggle check --json'
	tab 'waggle bench poli' 'waggle bench policy'
	tab 'waggle trace --event proxy' 'waggle trace --event proxy-down'
	tab 'waggle conns --service w' 'waggle conns --service web'
	tab 'waggle drain --wait 5 w' 'waggle drain --wait 5 web'
	tab 'waggle drain web 198.18.0.3' 'waggle drain web 198.18.0.3:8080'
	tab 'waggle drain web --wait 5 198.18.0.3' 'waggle drain web --wait 5 198.18.0.3:8080'
	tab "waggle check -c $WORK/wag" "waggle check -c $WORK/waggle.yaml"
	mux kill-server
}

named() {
	config <<<'services: [ { name: web, listen: "198.18.0.5:80", backends: [ "198.18.0.2:8080", "198.18.0.3:8080" ] } ]'
	run_start
}

in_bash() {
	named
	printf 'PS1="> "\n. /usr/share/bash-completion/bash_completion\n. <(waggle completion bash)\necho is ready\n' >"$WORK/rc"
	terminal bash --noprofile --rcfile "$WORK/rc" -i
	tabs
	run_stop
}

# As Debian's packages have it: a function of this name in a directory of fpath.
in_zsh() {
	named
	mkdir "$WORK/functions"
	"$WAGGLE" completion zsh >"$WORK/functions/_waggle"
	printf 'PS1="> "\nfpath=(%s $fpath)\nautoload -U compinit && compinit -u -D\necho is ready\n' "$WORK/functions" >"$WORK/.zshrc"
	ZDOTDIR=$WORK terminal zsh -d -i
	tabs
	run_stop
}

in_fish() {
	named
	mkdir -p "$WORK/fish/completions"
	"$WAGGLE" completion fish >"$WORK/fish/completions/waggle.fish"
	printf 'function fish_prompt; echo -n "> "; end\nset -g fish_greeting\nset -g fish_autosuggestion_enabled 0\necho is ready\n' \
		>"$WORK/fish/config.fish"
	terminal fish -i
	tabs
	run_stop
}

needs() {
	command -v "$1" >/dev/null || [ -n "${CI:-}" ] || skip "there is no $1"
}

unknown_shell() {
	local code=0

	"$WAGGLE" completion csh 2>"$WORK/err" || code=$?
	[ "$code" = 2 ]
	grep -q "there is no 'csh': bash, zsh or fish" "$WORK/err"
}

@test "bash completes every command and option" { inside commands_and_options; }
@test "bash completes files" { inside files; }
@test "bash completes names that the running waggle knows" { inside names; }
@test "the Tab key in bash" { inside in_bash; }
@test "the Tab key in zsh" { needs zsh; inside in_zsh; }
@test "the Tab key in fish" { needs fish; inside in_fish; }
@test "a shell that it does not know" { inside unknown_shell; }
