#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Completion in bash: what Tab does, by the function that bash calls for it, and in a bash that has read bash-completion.

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
	# After a colon bash wants the rest of the word only.
	replies 'waggle drain web 198.18.0.2:80' 8080
	run_stop
	replies 'waggle drain ' ''
}

# A bash on a terminal, and the Tab key.
tab_key() {
	mux() { tmux -f /dev/null -S "$WORK/tmux" "$@"; }
	line() { mux capture-pane -p -t c >"$WORK/screen" && grep -qE -- "$1" "$WORK/screen"; }

	mkdir -p "$WORK/bin"
	ln -s "$WAGGLE" "$WORK/bin/waggle"
	"$WAGGLE" completion bash >"$WORK/bin/waggle.bash"
	printf 'PATH=%s:$PATH PS1="> "\n. /usr/share/bash-completion/bash_completion\n. %s\necho is ready\n' \
		"$WORK/bin" "$WORK/bin/waggle.bash" >"$WORK/rc"
	mux new-session -d -s c -x 100 -y 10 bash --noprofile --rcfile "$WORK/rc" -i
	until_true 20 line '^is ready'
	mux send-keys -t c 'waggle rel' Tab
	until_true 20 line '^> waggle reload$'
	mux send-keys -t c C-u 'waggle check --js' Tab
	until_true 20 line '^> waggle check --json$'
	mux kill-server
}

for_other_shells() {
	"$WAGGLE" completion zsh >"$WORK/zsh"
	head -n 1 "$WORK/zsh" | grep -qx '#compdef waggle'
	"$WAGGLE" completion fish >"$WORK/fish"
	grep -q -- "-l wait -x -d 'wait so long" "$WORK/fish"
	! "$WAGGLE" completion csh 2>"$WORK/err"
	# Where there are these shells, they read it.
	! command -v zsh >/dev/null || zsh -n "$WORK/zsh"
	! command -v fish >/dev/null || fish --no-execute "$WORK/fish"
}

@test "bash completes every command and option" { inside commands_and_options; }
@test "bash completes files" { inside files; }
@test "bash completes names that the running waggle knows" { inside names; }
@test "the Tab key completes" { inside tab_key; }
@test "completions for zsh and fish" { inside for_other_shells; }
