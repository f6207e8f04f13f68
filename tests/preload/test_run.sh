#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# umm run, top and set: what they pass on, what they say, what they refuse. 77 is a skip and says why.
# usage: test_run.sh CASE UMM TIERS VICTIMS
set -euo pipefail

case_name=$1 umm=$2 victims=$4
export UMM_TIER_PATH=$3 XDG_CONFIG_HOME=/nonexistent
# shellcheck source=tests/preload/rig.sh
. "$(dirname "$0")/rig.sh"

silent() {
	[ ! -s "$scratch/err" ] || fail "on standard error: $(cat "$scratch/err")"
}

# What bash offers behind these words.
offers() {
	COMP_WORDS=("$@")
	COMP_CWORD=$(($# - 1))
	COMPREPLY=()
	_umm
	printf '%s\n' "${COMPREPLY[@]}"
}

completion() {
	PATH=$(dirname "$umm"):$PATH
	# shellcheck source=tools/completion/umm
	. "$(dirname "$0")/../../tools/completion/umm"
	[ "$(offers umm to)" = top ] || fail "umm to"
	[ "$(offers umm run --host)" = --host-limit ] || fail "umm run --host"
	[ "$(offers umm run --device op)" = opencl: ] || fail "umm run --device op"
	[ "$(offers umm set 1 c)" = cpu-budget= ] || fail "umm set 1 c"
	[ "$(offers umm top --on)" = --once ] || fail "umm top --on"
	[ "$(offers umm map --sec)" = --seconds ] || fail "umm map --sec"
	[ "$(offers umm help m)" = map ] || fail "umm help m"
	[ "$(offers umm trace --sec)" = --seconds ] || fail "umm trace --sec"
	[ "$(offers umm trace -o x --host)" = --host-limit ] || fail "umm trace -o x --host"
	offers umm trace --quiet -- bas | grep -x bash >/dev/null || fail "umm trace --quiet -- bas"
	offers umm run --quiet -- bas | grep -x bash >/dev/null || fail "umm run --quiet -- bas"
}

usage() {
	for verb in run top set map trace; do
		expect 0 "$umm" "$verb" --help
		says out "usage: umm $verb"
		expect 0 "$umm" help "$verb"
	done
	expect 2 "$umm" run
	says err 'no program'
	expect 2 "$umm" run --nonsense true
	says err '"--nonsense"'
	expect 2 "$umm" run --host-limit 12Q true
	says err 'host-limit: "12Q" is not a size'
	expect 2 "$umm" run --device 'x y' true
	says err 'device: "x y" is not of the form'
	expect 2 "$umm" run --device nonsense:1 --host-limit 1G true
	says err 'device nonsense:1: there is no kind of device "nonsense"'
	expect 2 "$umm" run --device ref:refuses --host-limit 1G true
	says err 'device ref:refuses: it was told to refuse'
	expect 2 "$umm" run --device opencl:no-such-device --host-limit 1G true
	says err 'umm run: device opencl:no-such-device: '
	expect 2 "$umm" run --device numa:9999 --host-limit 1G true
	says err 'umm run: device numa:9999: '
	expect 127 "$umm" run "${limits[@]}" "$scratch/missing"
	says err 'No such file'
	expect 126 "$umm" run "${limits[@]}" "$scratch"
	expect 2 "$umm" set
	expect 2 "$umm" set 1 quiet=yes
	expect 2 "$umm" set 1 host-limit=1K
	expect 2 "$umm" top x
	expect 2 "$umm" top --interval -1
	expect 2 "$umm" trace
	expect 2 "$umm" trace 1 2
	expect 2 "$umm" trace x
	expect 2 "$umm" trace -s 0 1
	expect 2 "$umm" trace --size 1K 1
	expect 2 "$umm" trace --nonsense -- true
	expect 1 "$umm" trace 999999999
	says err 'there is no process'
	expect 2 "$umm" map
	expect 2 "$umm" map 1 2
	expect 2 "$umm" map --seconds -1 1
	expect 2 "$umm" map --seconds x 1
	expect 1 "$umm" map 999999999
	says err 'there is no process'
}

# Status, arguments, standard streams; with the wrapper that a summary needs and without.
passes_on() {
	for summary in '' --summary; do
		expect 7 "$umm" run "${limits[@]}" $summary -- sh -c 'exit 7'
		expect 0 "$umm" run "${limits[@]}" $summary printf '%s|' a 'b c' --help
		[ "$(cat "$scratch/out")" = 'a|b c|--help|' ] || fail "$(cat "$scratch/out")"
		expect 137 bash -c '"$@"' - "$umm" run "${limits[@]}" $summary sh -c 'kill -9 $$'
		echo through | "$umm" run "${limits[@]}" $summary cat >"$scratch/out" 2>/dev/null
		says out through
	done
	# Signals reach the program, which may have an answer.
	"$umm" run "${limits[@]}" --summary -- bash -c \
		'trap "echo caught; exit 5" TERM; echo ready; while :; do sleep 0.1; done' \
		>"$scratch/out" 2>/dev/null &
	program=$!
	for _ in {1..200}; do
		! grep -q ready "$scratch/out" || break
		sleep 0.1
	done
	kill -TERM "$program"
	status=0
	wait "$program" || status=$?
	program=
	[ "$status" = 5 ] || fail "$status: $(cat "$scratch/out")"
	says out caught
}

# Options count more than the environment, which counts more than the file.
configuration() {
	printf '# limits\nhost-limit = 64M\n\n  malloc-threshold=0 # all\n' >"$scratch/conf"
	show='echo $UMM_HOST_LIMIT $UMM_MALLOC_THRESHOLD'
	expect 0 "$umm" run --config "$scratch/conf" --device ref -- sh -c "$show"
	says out '64M 0'
	expect 0 env UMM_HOST_LIMIT=96M "$umm" run --config "$scratch/conf" --device ref sh -c "$show"
	says out '96M 0'
	expect 0 env UMM_HOST_LIMIT=96M "$umm" run --config "$scratch/conf" --device ref \
		--host-limit 128M sh -c "$show"
	says out '128M 0'
	mkdir -p "$scratch/umm"
	cp "$scratch/conf" "$scratch/umm/run.conf"
	expect 0 env XDG_CONFIG_HOME="$scratch" "$umm" run --device ref sh -c "$show"
	says out '64M 0'
	expect 0 "$umm" run --device ref:a,ref:b --device ref:c --host-limit 1G sh -c 'echo $UMM_DEVICE'
	says out 'ref:a,ref:b,ref:c'
	echo 'host-limit: 64M' >"$scratch/conf"
	expect 2 "$umm" run --config "$scratch/conf" --device ref true
	says err "$scratch/conf:1: not of the form"
	expect 1 "$umm" run --config "$scratch/none" true
	says err 'No such file'
}

# Nothing to work with: the program runs, one line says why, and --quiet silences it.
nothing() {
	expect 0 "$umm" run sh -c 'echo $LD_PRELOAD'
	says err 'running without managed memory: no device'
	[ "$(cat "$scratch/out")" = "" ] || fail "$(cat "$scratch/out")"
	expect 3 "$umm" run --device ref sh -c 'exit 3'
	says err 'no limit'
	expect 0 "$umm" run --quiet true
	silent
}

summary() {
	need_userfaultfd
	expect 0 "$umm" run "${limits[@]}" --summary "$victims/victim_memory" sweep
	says out 'all as it should be'
	says err 'umm: memory of victim_memory'
	says err 'host limit                                   32.0 MiB'
	expect 0 "$umm" run "${limits[@]}" --summary true
	says err 'nothing left the host'
	# The device dies, and the program with it: the summary is there all the same.
	expect 135 bash -c '"$@"' - "$umm" run --device ref:dies=1G --host-limit 32M --summary \
		"$victims/victim_memory" sweep
	says err 'pages lost with their device'
	says err 'ended by SIGBUS'
	pid=$(sed -nE 's/^umm: memory of .* \(([0-9]+)\)$/\1/p' "$scratch/err")
	[ ! -e "/dev/shm/umm-$(id -u)-$pid" ] || fail "its shared memory is left behind"
}

host_now() {
	"$umm" top --once "$program" | sed -nE 's/.* host +([0-9]+)\..*/\1/p'
}

top_and_set() {
	need_userfaultfd
	start_program
	expect 0 "$umm" top --once "$program"
	says out victim_memory
	says out 'of      32.0 MiB'
	expect 0 "$umm" top --once
	says out victim_memory
	[ "$(host_now)" -le 32 ] || fail "$(cat "$scratch/out")"
	expect 0 "$umm" set "$program" host-limit=20M cpu-budget=5
	for _ in {1..100}; do
		[ "$(host_now)" -gt 20 ] || break
		sleep 0.1
	done
	[ "$(host_now)" -le 20 ] || fail "the new limit is not kept: $(host_now)"
	expect 1 "$umm" top --once 1
	expect 1 "$umm" set 999999999 host-limit=1G
	says err 'there is no process'
	kill "$program"
	wait "$program" 2>/dev/null || true
	expect 1 "$umm" top --once "$program"
	# What a program that was killed leaves, the next look takes away.
	expect 0 "$umm" top --once
	[ ! -e "/dev/shm/umm-$(id -u)-$program" ] || fail "its shared memory is left behind"
}

foreign() {
	[ "$(id -u)" = 0 ] || skip "only root can be somebody else"
	command -v setpriv >/dev/null || skip "there is no setpriv (Debian: util-linux)"
	need_userfaultfd
	start_program
	chmod 755 "$scratch"
	cp "$umm" "$(ldd "$umm" | awk '/libumm.so/ { print $3 }')" "$scratch"
	for verb in 'top --once' map 'trace -o /dev/null' set; do
		expect 1 env LD_LIBRARY_PATH="$scratch" setpriv --reuid=65534 --clear-groups \
			"$scratch/umm" $verb "$program" \
			$([ "$verb" != set ] || echo host-limit=64M)
		says err "another user's"
	done
	# And past the command, too.
	[ "$(stat -c %a /dev/shm/umm-0-"$program")" = 600 ] || fail "it is open to others"
}

"$case_name"
