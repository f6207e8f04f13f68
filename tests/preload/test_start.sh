#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# umm run where others have prepared the ground: nobody reads, or system calls are filtered.
# 77 is a skip and says why.
# usage: test_start.sh CASE UMM TIERS VICTIMS
set -euo pipefail

case_name=$1 umm=$2 victims=$4
export UMM_TIER_PATH=$3 XDG_CONFIG_HOME=/nonexistent
# shellcheck source=tests/preload/rig.sh
. "$(dirname "$0")/rig.sh"

# A warning that nobody can read does not keep the program from running, nor a summary from its status.
nobody_reads() {
	mkfifo "$scratch/full" "$scratch/broken"
	exec 7<>"$scratch/full" 8>"$scratch/full"
	dd if=/dev/zero of=/dev/fd/7 bs=4096 oflag=nonblock 2>"$scratch/dd" || true
	grep -q 'temporarily unavailable' "$scratch/dd" || fail "$(cat "$scratch/dd")"
	exec 6<>"$scratch/broken" 9>"$scratch/broken" 6>&-
	for to in 8 9; do
		expect 5 timeout -s KILL 60 bash -c 'exec "${@:2}" 2>&"$1"' - $to "$umm" run sh -c 'exit 5'
	done
	expect 5 bash -c 'exec "$@" 2>&9' - "$umm" run "${limits[@]}" --summary sh -c 'exit 5'
}

# A filter of system calls that the program has from who started it, and that is none of ours, may kill for
# what managed memory takes. One that was there before, as in a container, lets it work.
sandboxed() {
	local contained=("$victims/victim_raw" contained)

	need_userfaultfd
	for before in '' contained; do
		expect 0 ${before:+"${contained[@]}"} "$umm" run "${limits[@]}" \
			"$victims/victim_raw" becomes_filtered
		says out 'victim: all as it should be'
		# One line of who sets it, and one of what it is set for.
		[ "$(wc -l <"$scratch/err")" = 2 ] || fail "$(cat "$scratch/err")"
		says err 'umm: running without managed memory: a filter of system calls was set since'
		expect 0 ${before:+"${contained[@]}"} "$umm" run "${limits[@]}" --summary \
			"$victims/victim_raw" fills
		says err 'umm: memory of victim_raw'
	done
	expect 0 "$umm" run "${limits[@]}" --quiet "${contained[@]}" "$victims/victim_raw" becomes_filtered
	says out 'victim: all as it should be'
	[ ! -s "$scratch/err" ] || fail "$(cat "$scratch/err")"
}

# What runs a script has to be reached, be it a script itself.
scripts() {
	local script static=$victims/victim_static

	need_userfaultfd
	[ -x "$static" ] || skip "there is no static C library"
	printf '#! %s x\n' "$static" >"$scratch/first"
	printf '#!%s\n' "$scratch/first" >"$scratch/second"
	printf '#!/bin/sh\nexit 3' >"$scratch/third"
	chmod 755 "$scratch"/{first,second,third}
	for script in first second; do
		expect 0 "$umm" run "${limits[@]}" --summary "$scratch/$script"
		says err "memory: $scratch/$script is a script for $static, which is statically linked"
		[ "$(wc -l <"$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
	done
	expect 3 "$umm" run "${limits[@]}" "$scratch/third"
	[ ! -s "$scratch/err" ] || fail "$(cat "$scratch/err")"
}

# As a user without rights, but to use userfaultfd.
as_nobody() {
	[ "$(id -u)" = 0 ] || skip "only root can become another user"
	command -v setpriv >/dev/null || skip "there is no setpriv (Debian: util-linux)"
	chmod 755 "$scratch"
	setpriv --reuid=65534 --clear-groups --inh-caps=+sys_ptrace --ambient-caps=+sys_ptrace true ||
		skip "a user's capabilities cannot be kept here"
	nobody=(setpriv --reuid=65534 --clear-groups --inh-caps=+sys_ptrace
		--ambient-caps=+sys_ptrace)
	"${nobody[@]}" "$umm" info >/dev/null || skip "another user cannot read the build"
}

# To a user the loader does not heed it in a program with capabilities; to root it does.
capabilities() {
	need_userfaultfd
	as_nobody
	cp "$victims/victim_memory" "$scratch/other"
	setcap cap_net_raw+ep "$scratch/other" 2>"$scratch/err" || skip "$(cat "$scratch/err")"
	expect 0 "${nobody[@]}" "$umm" run "${limits[@]}" --summary "$scratch/other" sweep
	says out 'victim: all as it should be'
	says err 'other is a file with capabilities'
	[ "$(wc -l <"$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
	expect 0 "$umm" run "${limits[@]}" --summary "$scratch/other" sweep
	says err 'umm: memory of other'
}

# What a program could do that knows of libumm is nothing for whoever runs one that does not.
undumpable() {
	need_userfaultfd
	as_nobody
	expect 0 "${nobody[@]}" "$umm" run "${limits[@]}" --summary "$victims/victim_raw" undumpable
	says out 'victim: all as it should be'
	says err 'umm: memory of victim_raw'
	says err 'counts as touched; the program is not dumpable'
	! grep -E 'create|prctl' "$scratch/err" || fail "it advises programmers"
}

# Under what lets one thread run at a time the program runs as without, and one line says so.
takes_turns() {
	need_userfaultfd
	cp "$victims/libvictim_library.so" "$scratch/librrpreload.so"
	expect 0 env LD_PRELOAD="$scratch/librrpreload.so" "$umm" run "${limits[@]}" \
		"$victims/victim_memory" sweep
	says out 'victim: all as it should be'
	says err 'umm: running without managed memory: under rr one thread runs at a time'
	[ "$(wc -l <"$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
	command -v valgrind >/dev/null || skip "there is no valgrind (Debian: valgrind)"
	if ! "$umm" run "${limits[@]}" timeout -s KILL 120 valgrind -q --tool=none true \
		>"$scratch/out" 2>"$scratch/err" && grep -q 'corrupted debuginfo' "$scratch/err"; then
		skip "this valgrind cannot read what this compiler tells debuggers"
	fi
	expect 0 "$umm" run "${limits[@]}" timeout -s KILL 120 valgrind -q --tool=none \
		"$victims/victim_memory" sweep
	says out 'victim: all as it should be'
	says err 'umm: running without managed memory: under valgrind one thread runs at a time'
}

# There is nothing to say of a program that never was.
cannot_run() {
	expect 127 "$umm" run "${limits[@]}" --summary "$scratch/missing"
	[ "$(wc -l <"$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
	expect 126 "$umm" run "${limits[@]}" --summary "$scratch"
	[ "$(wc -l <"$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
}

# What a terminal sends reaches the program once. It then sends twice to who waits
# for it what comes back: by then all has been passed on.
terminal_sends_once() {
	command -v python3 >/dev/null || skip "there is no python3 (Debian: python3)"
	need_userfaultfd
	for signal in INT QUIT HUP; do
		timeout -s KILL 100 python3 - $signal "$scratch/count" "$umm" run "${limits[@]}" \
			--summary "$victims/victim_raw" counts "$scratch/count" <<-'END' ||
			import os, pty, sys
			child, fd = pty.fork()
			if not child:
			    os.execv(sys.argv[3], sys.argv[3:])
			seen = b""
			while b"ready" not in seen:
			    seen += os.read(fd, 4096)
			if sys.argv[1] == "HUP":
			    os.close(fd)
			else:
			    os.write(fd, b"\x03" if sys.argv[1] == "INT" else b"\x1c")
			os.waitpid(child, 0)
		END
			fail "on a terminal, with $signal"
		[ "$(cat "$scratch/count")" = 1 ] || fail "$signal: $(cat "$scratch/count")"
	done
}

"$case_name"
