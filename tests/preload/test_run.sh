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

# An OpenCL device that was found is not looked for again the same day; one that was not is each time.
found_before() {
	local run=("$umm" run --host-limit 1G --device)

	export XDG_CACHE_HOME=$scratch/cache POCL_CACHE_DIR=$scratch
	"${run[@]}" opencl:pthread=512M true 2>"$scratch/err" || skip "$(cat "$scratch/err")"
	[ -f "$XDG_CACHE_HOME/umm/opencl%3apthread=536870912" ] || fail "$(find "$scratch/cache")"
	export OCL_ICD_VENDORS=/nonexistent
	expect 0 "${run[@]}" opencl:pthread=512M true
	silent
	expect 2 "${run[@]}" opencl:pthread=256M true
	says err 'umm run: device opencl:pthread: '
	expect 2 "${run[@]}" opencl:no-such-device true
	touch -d '2 days ago' "$XDG_CACHE_HOME"/umm/*
	expect 2 "${run[@]}" opencl:pthread=512M true
	unset OCL_ICD_VENDORS
	expect 0 "${run[@]}" opencl:pthread=512M true
	[ "$(find "$XDG_CACHE_HOME/umm" -mtime -1 -type f | wc -l)" = 1 ] ||
		fail "it is not remembered again, or more is"
	# Nowhere to remember it, and no name that escapes from there.
	expect 0 env -u XDG_CACHE_HOME -u HOME "${run[@]}" opencl:pthread=512M true
	expect 0 env XDG_CACHE_HOME=/dev/null "${run[@]}" opencl:pthread=512M true
	expect 2 "${run[@]}" "opencl:../../x" true
	# Gone when it is needed: one line, and the program runs.
	export OCL_ICD_VENDORS=/nonexistent
	expect 0 env XDG_CACHE_HOME="$scratch/cache" "$umm" run --host-limit 32M \
		--device opencl:pthread=512M "$victims/victim_memory" sweep
	says out 'victim: all as it should be'
	[ "$(grep -c 'umm: device opencl:pthread: ' "$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
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
	[ "$(offers umm set 1 p)" = placement= ] || fail "umm set 1 p"
	[ "$(offers umm top --on)" = --once ] || fail "umm top --on"
	[ "$(offers umm map --sec)" = --seconds ] || fail "umm map --sec"
	[ "$(offers umm help m)" = map ] || fail "umm help m"
	[ "$(offers umm trace --sec)" = --seconds ] || fail "umm trace --sec"
	[ "$(offers umm trace -o x --host)" = --host-limit ] || fail "umm trace -o x --host"
	offers umm trace --quiet -- bas | grep -x bash >/dev/null || fail "umm trace --quiet -- bas"
	offers umm run --quiet -- bas | grep -x bash >/dev/null || fail "umm run --quiet -- bas"
}

usage() {
	declare -A change=([set]=host-limit=20M)
	for verb in run top set map trace; do
		expect 0 "$umm" "$verb" --help
		says out "usage: umm $verb"
		expect 0 "$umm" help "$verb"
	done
	expect 2 "$umm" run
	says err 'no program'
	expect 2 "$umm" run --host-limit
	says err '--host-limit takes a value'
	expect 2 "$umm" run --device ref=1 --host-limit 1G true
	says err 'with 2M at least'
	expect 1 "$umm" run --config / true
	says err 'Is a directory'
	expect 2 "$umm" run --nonsense true
	says err '"--nonsense"'
	for number in $(($$ + 4294967296)) 99999999999999 +1 ' 1' 0 1x ''; do
		for verb in set map top trace; do
			expect 2 "$umm" "$verb" "$number" ${change[$verb]-}
			says err "\"$number\""
		done
	done
	expect 2 "$umm" run --host-limit 12Q true
	says err 'host-limit: "12Q" is not a size'
	expect 2 "$umm" run --device ref:a,ref:b --device ref:a=1G --host-limit 1G true
	says err 'umm run: device: "ref:a=1G" is given twice'
	expect 2 "$umm" run --device $'ref:a\nb' --host-limit 1G true
	[ "$(wc -l <"$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
	for unit in M m MB mb MiB; do
		expect 0 "$umm" run --device ref=16$unit --host-limit 16$unit true
	done
	expect 2 "$umm" run --device 'x y' true
	says err 'device: "x y" is not of the form'
	expect 2 "$umm" run --device nonsense:1 --host-limit 1G true
	says err 'device nonsense:1: there is no kind of device "nonsense"'
	expect 2 "$umm" run --device ref:refuses --host-limit 1G true
	says err 'device ref:refuses: it was told to refuse'
	expect 2 "$umm" run --device opencl:no-such-device --host-limit 1G true
	says err 'umm run: device opencl:no-such-device: '
	expect 2 "$umm" run --device opencl=99999T --host-limit 1G true
	expect 2 "$umm" run --device numa=99999T --host-limit 1G true
	if [ "$(find /sys/devices/system/node -maxdepth 1 -name 'node[0-9]*' | wc -l)" = 1 ] &&
		"$umm" run --device numa:far=2M --host-limit 1G true 2>"$scratch/err"; then
		says err 'umm run: device numa:far: it is the only node'
		expect 0 "$umm" run --device numa:far=2M --host-limit 1G --quiet true
		silent
	fi
	expect 2 "$umm" run --device numa:9999 --host-limit 1G true
	says err 'umm run: device numa:9999: '
	expect 127 "$umm" run "${limits[@]}" "$scratch/missing"
	says err 'No such file'
	expect 126 "$umm" run "${limits[@]}" "$scratch"
	expect 2 "$umm" set
	expect 2 "$umm" set 1 quiet=yes
	expect 2 "$umm" set 1 host-limit=1K
	expect 2 "$umm" set 1 placement=nearest
	says err 'placement: "nearest" is not'
	expect 2 "$umm" set 1 sampling=always
	says err 'sampling: "always" is not'
	expect 2 "$umm" top x
	expect 2 "$umm" top --interval -1
	says err '--interval takes seconds'
	expect 2 "$umm" top -i
	says err '--interval takes seconds'
	expect 2 "$umm" trace
	expect 2 "$umm" trace 1 2
	expect 2 "$umm" trace x
	expect 2 "$umm" trace -s 0 1
	expect 2 "$umm" trace --size 1K 1
	says err '--size takes a size'
	expect 2 "$umm" trace -o
	says err '-o takes the name of a file'
	expect 2 "$umm" trace --
	says err 'it takes one process number, or "-- PROGRAM"'
	[ "$(wc -l <"$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
	expect 2 "$umm" trace --nonsense -- true
	expect 1 "$umm" trace 999999999
	says err 'there is no process'
	expect 2 "$umm" map
	expect 2 "$umm" map 1 2
	expect 2 "$umm" map --seconds -1 1
	expect 2 "$umm" map --seconds x 1
	says err '--seconds takes seconds'
	expect 2 "$umm" map -o
	says err '--output takes the name of a file'
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
		# What is ignored stays so.
		expect 0 bash -c 'trap "" HUP; "$@"' - "$umm" run "${limits[@]}" $summary \
			grep SigIgn /proc/self/status
		says out 1
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
	# What is the library's to read reaches it by the same ways.
	printf 'hints = no-migrate,granularity=4\nreadahead = off\nthrash = throttle\nevict-order = lirs\n' >"$scratch/conf"
	show='echo $UMM_HINTS $UMM_READAHEAD $UMM_THRASH $UMM_EVICT_ORDER'
	expect 0 "$umm" run --config "$scratch/conf" --device ref --host-limit 64M sh -c "$show"
	says out 'no-migrate,granularity=4 off throttle lirs'
	expect 0 env UMM_HINTS=read-mostly "$umm" run --config "$scratch/conf" --device ref --host-limit 64M \
		--thrash pin sh -c "$show"
	says out 'read-mostly off pin lirs'
	echo 'host-limit: 64M' >"$scratch/conf"
	expect 2 "$umm" run --config "$scratch/conf" --device ref true
	says err "$scratch/conf:1: not of the form"
	# One line says where and what, and no file is too long for that.
	for line in 'host-limit = foo' 'nonsense = 1' 'quiet = maybe'; do
		printf '\n%s\n' "$line" >"$scratch/conf"
		expect 2 "$umm" run --config "$scratch/conf" --device ref true
		says err "$scratch/conf:2: "
		[ "$(wc -l <"$scratch/err")" = 1 ] || fail "more than a line: $(cat "$scratch/err")"
	done
	# So does one of the environment, whatever it quotes.
	expect 2 env UMM_HOST_LIMIT=$'1\n\e[2J2' "$umm" run --device ref true
	says err 'host-limit: "1??[2J2" is not'
	[ "$(wc -l <"$scratch/err")" = 1 ] || fail "more than a line: $(cat "$scratch/err")"
	expect 2 "$umm" run --config /dev/zero --device ref true
	says err '/dev/zero:1: the line is too long'
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

# Programs that the shim cannot be put in front of: they run, and one line says why nothing is
# managed. Where the dynamic loader itself is run, it is heeded.
out_of_reach() {
	local n=0 way loader

	for way in static static-pie; do
		[ -x "$victims/victim_$way" ] || continue
		expect 0 "$umm" run "${limits[@]}" --summary "$victims/victim_$way"
		says out 'victim: all as it should be'
		says err "running without managed memory: $victims/victim_$way is statically linked"
		[ "$(wc -l <"$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
		n=$((n + 1))
	done
	loader=$(readelf -l "$victims/victim_memory" 2>/dev/null |
		sed -n 's/.*interpreter: \(.*\)]/\1/p')
	if [ -n "$loader" ]; then
		expect 0 "$umm" run "${limits[@]}" "$loader" "$victims/victim_memory" family
		silent
	fi
	if [ "$(id -u)" = 0 ]; then
		chmod 755 "$scratch"
		cp /bin/true "$scratch/other"
		chown 65534 "$scratch/other"
		chmod 4755 "$scratch/other"
		expect 0 env PATH="$scratch:$PATH" "$umm" run "${limits[@]}" other
		says err 'other is set-user-ID'
		n=$((n + 1))
	fi
	[ "$n" -gt 0 ] || skip "no such programs can be made: no static C library, and not root"
}

summary() {
	need_userfaultfd
	expect 0 "$umm" run "${limits[@]}" --summary "$victims/victim_memory" sweep
	says out 'all as it should be'
	says err 'umm: memory of victim_memory'
	says err 'host limit                                   32.0 MiB'
	expect 0 "$umm" run "${limits[@]}" --summary true
	says err 'managed memory stayed under its limit'
	# The device dies, and the program with it: the summary is there all the same.
	expect 135 bash -c '"$@"' - "$umm" run --device ref:dies=1G --host-limit 32M --summary \
		"$victims/victim_memory" sweep
	for _ in {1..10}; do
		grep -qE '^  pages lost with their device +[1-9]' "$scratch/err" ||
			fail "none is said to be lost: $(cat "$scratch/err")"
		says err 'failed while the program ran'
		[ "$(grep -vc '^  ' "$scratch/err")" = 3 ] || fail "more lines: $(cat "$scratch/err")"
		says err 'umm: device ref:dies failed: '
		says err 'ended by SIGBUS'
		expect 135 bash -c '"$@"' - "$umm" run --device ref:dies=1G --host-limit 32M --summary \
			"$victims/victim_memory" sweep
	done
	pid=$(sed -nE 's/^umm: memory of .* \(([0-9]+)\)$/\1/p' "$scratch/err")
	[ ! -e "/dev/shm/umm-$(id -u)-$pid" ] || fail "its shared memory is left behind"
}

# Little address space: the program runs as it is, or, under the shim, with its allocator alone; one
# line says why. With more of it memory is managed.
tight() {
	local way

	for way in -v -d; do
		expect 0 bash -c "ulimit $way 200000 && exec \"\$@\"" - "$umm" run "${limits[@]}" \
			"$victims/victim_memory" sweep
		says out 'victim: all as it should be'
		says err "umm run: running without managed memory: 'ulimit $way' is 195 MiB"
		[ "$(wc -l <"$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
		expect 0 bash -c "ulimit $way 200000 && exec \"\$@\"" - "$umm" run --quiet "${limits[@]}" \
			sh -c 'echo "<$LD_PRELOAD>"'
		says out '<>'
		silent
		expect 0 "$umm" run "${limits[@]}" bash -c "ulimit $way 200000 && exec \"\$@\"" - \
			"$victims/victim_memory" sweep
		says out 'victim: all as it should be'
		says err "umm: running without managed memory: 'ulimit $way' is 195 MiB"
		[ "$(wc -l <"$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
	done
	need_userfaultfd
	expect 0 bash -c 'ulimit -v 8000000 && exec "$@"' - "$umm" run "${limits[@]}" --summary \
		"$victims/victim_memory" sweep
	says err 'umm: memory of victim_memory'
}

# No room for shared memory: the program keeps to its limit, and one line says what is missing.
no_room() {
	need_userfaultfd
	[ "$(id -u)" = 0 ] || skip "only root can make a small file system"
	unshare -m true 2>/dev/null || skip "file systems cannot be mounted here"
	expect 0 unshare -m sh -c 'mount -t tmpfs -o size=16k none /dev/shm &&
		head -c 16k /dev/zero >/dev/shm/full && "$@"; status=$?; ls /dev/shm; exit $status' - \
		"$umm" run "${limits[@]}" --summary "$victims/victim_memory" sweep
	says out 'victim: all as it should be'
	[ "$(tail -n 1 "$scratch/out")" = full ] || fail "$(cat "$scratch/out")"
	says err 'umm: /dev/shm: No space left on device: '
	says err 'umm run: there is no summary'
	# And for another reason.
	expect 0 unshare -m sh -c 'mount -t tmpfs -o size=16k,ro none /dev/shm && "$@"' - \
		"$umm" run "${limits[@]}" "$victims/victim_memory" sweep
	says out 'victim: all as it should be'
	says err 'umm: /dev/shm: Read-only file system: '
	[ "$(wc -l <"$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
}

# MiB in use on device $1 of the program.
on_device() {
	"$umm" top --once "$program" | sed -nE "s/.*ref:$1 +([0-9]+)\\..*/\\1/p"
}

# Where goes what the host may not keep of 128 MiB: two devices have room for it.
placement() {
	need_userfaultfd
	for policy in first interleave roomiest; do
		printf 'placement = %s\ntrace = %s\n' "$policy" "$scratch/trace" >"$scratch/conf"
		limits=(--config "$scratch/conf" --device ref:a=512M --device ref:b=512M --host-limit 32M)
		start_program
		a=$(on_device a) b=$(on_device b)
		kill "$program"
		wait "$program" || true
		program=
		[ "${a:-0}" -gt 8 ] || fail "$policy put nothing on the first device: $a, $b"
		case $policy in
		first) [ "$b" -eq 0 ] || fail "the first device is not full, and $b MiB are on the other" ;;
		*) [ "$b" -gt 8 ] || fail "$policy left the second device alone: $a, $b" ;;
		esac
		[ "$(head -c 7 "$scratch/trace")" = umm-rec ] || fail "nothing was recorded"
	done
	expect 2 "$umm" run --placement nearest --device ref --host-limit 32M true
	says err 'placement: "nearest" is not'
}

# Another policy takes over while the program waits: what leaves from then on goes to both devices,
# and pages are moved aside.
policies() {
	local runner

	need_userfaultfd
	limits=(--device ref:a=512M --device ref:b=512M --host-limit 64M --summary)
	start_program
	runner=$program
	[ "$(on_device b)" -eq 0 ] || fail "the first device is not full"
	expect 0 "$umm" set "$program" placement=interleave host-limit=20M sampling=probe
	for _ in {1..100}; do
		[ "$(host_now)" -gt 20 ] || break
		sleep 0.1
	done
	[ "$(on_device b)" -gt 8 ] || fail "nothing went to the other device"
	program=$(cat "/proc/$runner/task/$runner/children")
	kill "${program// /}"
	wait "$runner" || true
	program=
	[ "$(sed -nE 's/.*moved aside for a look +([0-9]+)$/\1/p' "$scratch/waits")" -gt 0 ] ||
		fail "nothing was moved aside: $(cat "$scratch/waits")"
	grep -qE 'placement +interleave$' "$scratch/waits" || fail "$(cat "$scratch/waits")"
	grep -qE 'sampling +probe$' "$scratch/waits" || fail "$(cat "$scratch/waits")"
}

# Whichever pages leave, the program finds what it put there.
sampling() {
	need_userfaultfd
	for policy in refault probe second off; do
		expect 0 "$umm" run "${limits[@]}" --sampling "$policy" --summary \
			"$victims/victim_memory" sweep
		says out 'all as it should be'
		[ "$(sed -nE 's/.*moved to devices +([0-9]+)\..*/\1/p' "$scratch/err")" -gt 64 ] ||
			fail "$policy moved nothing: $(cat "$scratch/err")"
		probes=$(sed -nE 's/.*moved aside for a look +([0-9]+)$/\1/p' "$scratch/err")
		case $policy in
		probe) [ "$probes" -gt 0 ] ;;
		*) [ "$probes" -eq 0 ] ;;
		esac || fail "$policy moved $probes pages aside: $(cat "$scratch/err")"
	done
	expect 2 env UMM_SAMPLING=always "$umm" run "${limits[@]}" true
	says err 'sampling: "always" is not'
}

host_now() {
	"$umm" top --once "$program" | sed -nE 's/.* host +([0-9]+)\..*/\1/p'
}

top_and_set() {
	need_userfaultfd
	start_program
	gone=$program
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
	program=
	expect 1 "$umm" top --once "$gone"
	# What a program that was killed leaves, the next look takes away.
	expect 0 "$umm" top --once
	[ ! -e "/dev/shm/umm-$(id -u)-$gone" ] || fail "its shared memory is left behind"
}

# Who waits for a program that does not run says so, and not for ever.
stopped() {
	local -A tools
	local verb

	need_userfaultfd
	start_program
	stop_program
	"$umm" map -o "$scratch/map.svg" "$program" 2>"$scratch/map" &
	tools[map]=$!
	"$umm" trace -o "$scratch/trace.json" "$program" 2>"$scratch/trace" &
	tools[trace]=$!
	"$umm" set "$program" host-limit=20M 2>"$scratch/set" &
	tools[set]=$!
	for verb in "${!tools[@]}"; do
		! wait "${tools[$verb]}" || fail "umm $verb exited with 0"
		cmp "$scratch/$verb" - <<-END || fail "$(cat "$scratch/$verb")"
		umm $verb: waiting for process $program, which is stopped
		umm $verb: process $program is stopped: it answers only when it goes on (kill -CONT)
		END
	done
	[ ! -e "$scratch/map.svg" ] || fail "half a picture is left"
	# It goes on with what it was told meanwhile, and what goes on in time has answered.
	kill -CONT "$program"
	for _ in {1..300}; do
		[ "$(host_now)" -gt 20 ] || break
		sleep 0.1
	done
	[ "$(host_now)" -le 20 ] || fail "the new limit is not kept: $(host_now)"
	stop_program
	"$umm" set "$program" host-limit=24M 2>"$scratch/again" &
	tools[set]=$!
	for _ in {1..300}; do
		! grep -q 'which is stopped' "$scratch/again" || break
		sleep 0.1
	done
	kill -CONT "$program"
	wait "${tools[set]}" || fail "$(cat "$scratch/again")"
	[ "$(wc -l <"$scratch/again")" = 1 ] || fail "$(cat "$scratch/again")"
}

# On a terminal of ROWS COLUMNS..., one after the other, while it runs: what of each it fills.
on_terminal() { # PID SIZE...
	python3 - "$umm" "$@" <<-'END' || fail "on a terminal"
	import fcntl, os, pty, select, signal, struct, sys, termios, time
	umm, pid, sizes = sys.argv[1], sys.argv[2], [tuple(map(int, s.split("x"))) for s in sys.argv[3:]]
	def size_set(fd, size):
	    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
	child, fd = pty.fork()
	if not child:
	    size_set(0, sizes[0])
	    # Longer than this test may take: what is shown anew is so because the size has changed.
	    os.execv(umm, [umm, "top", "--interval", "3600", pid])
	def screen():
	    """The next one, as soon as it is whole: nothing comes for a second, then."""
	    seen = b""
	    while not seen or select.select([fd], [], [], 1)[0]:
	        seen += os.read(fd, 65536)
	    return seen.rsplit(b"\033[H\033[2J", 1)[1].decode("ascii").split("\r\n")
	whole = None
	for i, (rows, columns) in enumerate(sizes):
	    if i:
	        size_set(fd, (rows, columns))
	    lines = screen()
	    if not whole:
	        whole = lines
	        assert len(whole) >= 4 and "victim_memory" in whole[0], whole
	    wanted = [line[:columns] for line in whole[:rows]] if rows and columns else whole
	    while wanted and not wanted[-1]:
	        wanted.pop()
	    assert lines == wanted, (rows, columns, lines, wanted)
	os.kill(child, signal.SIGKILL)
	os.waitpid(child, 0)
	END
}

# What does not fit is left out, whatever the size, and however it changes.
top_fits_the_terminal() {
	command -v python3 >/dev/null || skip "there is no python3 (Debian: python3)"
	need_userfaultfd
	start_program
	on_terminal "$program" 50x200 1x1 2x1 1x7 3x40 1000x1000 0x0 4x20 50x200
}

# Resized while the terminal takes nothing (^S), it waits until that goes on.
top_waits_for_the_terminal() {
	command -v python3 >/dev/null || skip "there is no python3 (Debian: python3)"
	need_userfaultfd
	start_program
	python3 - "$umm" "$program" <<-'END' || fail "on a terminal that was stopped"
	import fcntl, os, pty, select, struct, sys, termios, time
	child, fd = pty.fork()
	if not child:
	    os.execv(sys.argv[1], [sys.argv[1], "top", "--interval", "0.01", sys.argv[2]])
	def read_until(is_enough):
	    seen = b""
	    while not is_enough(seen):
	        assert select.select([fd], [], [], 60)[0], seen
	        seen += os.read(fd, 65536)
	is_shown = lambda seen: seen.count(b"victim_memory") >= 2
	read_until(is_shown)
	os.write(fd, b"\x13")
	while select.select([fd], [], [], 1)[0]:
	    os.read(fd, 65536)
	for i in range(50):
	    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50 + i % 2, 200, 0, 0))
	    time.sleep(0.01)
	assert os.waitpid(child, os.WNOHANG) == (0, 0), "it has ended"
	os.write(fd, b"\x11")
	read_until(is_shown)
	os.kill(child, 9)
	os.waitpid(child, 0)
	END
}

is_gone() { # PID...
	local pid

	for pid; do
		[ ! -e "/dev/shm/umm-$(id -u)-$pid" ] || fail "the shared memory of $pid is left behind"
	done
}

is_there() { # PID...
	local pid

	for pid; do
		[ -e "/dev/shm/umm-$(id -u)-$pid" ] || fail "the shared memory of $pid is gone"
	done
}

# What a program and its forked child leave that are killed, the next one that starts takes away;
# nothing of those that live, nor of anybody else.
leftovers() {
	local child gone foreign

	need_userfaultfd
	start_program waits_twice
	for _ in {1..300}; do
		[ "$(grep -c ready "$scratch/waits")" -lt 2 ] || break
		sleep 0.1
	done
	child=$(sed -n 's/^child //p' "$scratch/waits")
	gone=$program
	is_there "$gone" "$child"
	kill -9 "$program" "$child"
	wait "$program" 2>/dev/null || true
	for _ in {1..300}; do
		grep -q '^State:.[^Z]' "/proc/$child/status" 2>/dev/null || break
		sleep 0.1
	done
	foreign=/dev/shm/umm-$(id -u)-$((gone + 4000000))
	printf x >"$foreign.new"
	[ "$(id -u)" != 0 ] || chown 65534 "$foreign.new"
	mv "$foreign.new" "$foreign"
	start_program
	is_gone "$gone" "$child"
	others=$program
	start_program
	expect 0 "$umm" top --once
	says out "$program victim_memory"
	says out "$others victim_memory"
	is_there "$program" "$others"
	kill -9 "$others"
	if [ "$(id -u)" = 0 ]; then
		[ -e "$foreign" ] || fail "it took away what is another user's"
		rm "$foreign"
	else
		[ ! -e "$foreign" ] || fail "a file without content is left behind"
	fi
}

# A number that another process has by now, and a program that has become another one by exec().
other_programs() {
	local file sleeper

	need_userfaultfd
	start_program
	file=/dev/shm/umm-$(id -u)
	sleep 600 &
	sleeper=$!
	cp "$file-$program" "$file-$sleeper"
	kill -9 "$program"
	expect 1 "$umm" top --once "$sleeper"
	says err "process $sleeper has nothing to tell"
	expect 0 "$umm" top --once
	is_gone "$sleeper"
	kill "$sleeper"

	start_program becomes
	for _ in {1..300}; do
		[ "$(cat "/proc/$program/comm")" != sleep ] || break
		sleep 0.1
	done
	expect 1 "$umm" set "$program" host-limit=1G
	says err "process $program has nothing to tell"
	expect 0 "$umm" top --once
	is_gone "$program"
}

# A program that was killed and not waited for yet: its summary is still to be read.
summary_is_kept() {
	local runner lookers=()

	need_userfaultfd
	limits+=(--summary)
	start_program
	runner=$program
	program=$(cat "/proc/$runner/task/$runner/children" 2>/dev/null) ||
		skip "this kernel does not list children"
	program=${program// /}
	# Who looks while it ends takes nothing away either.
	for _ in {1..4}; do
		(for _ in {1..500}; do "$umm" top --once >/dev/null; done) &
		lookers+=($!)
	done
	kill -STOP "$runner"
	kill -9 "$program"
	for _ in {1..300}; do
		! grep -q '^State:.Z' "/proc/$program/status" || break
		sleep 0.1
	done
	expect 0 "$umm" top --once
	# Not one that is still about to become a shell of its own, and would take the scratch along.
	kill -9 "${lookers[@]}"
	wait "${lookers[@]}" 2>/dev/null || true
	is_there "$program"
	kill -CONT "$runner"
	wait "$runner" 2>/dev/null || true
	says waits 'umm: memory of victim_memory'
	is_gone "$program"
	program=
}

# Many start and are looked at all at once: nobody takes away what a newborn has.
many() {
	local pid pids=()

	need_userfaultfd
	for round in {1..4}; do
		for i in {1..6}; do
			"$umm" run "${limits[@]}" "$victims/victim_memory" waits >"$scratch/many$i" 2>&1 &
			pids+=($!)
		done
		for _ in {1..600}; do
			"$umm" top --once >/dev/null
			[ "$(cat "$scratch"/many* | grep -c ready)" -lt 6 ] || break
		done
		is_there "${pids[@]}"
		kill -9 "${pids[@]}"
		wait "${pids[@]}" 2>/dev/null || true
		"$umm" top --once >/dev/null
		is_gone "${pids[@]}"
		pids=()
	done
}

engine_ticks() {
	local task

	task=$(dirname "$(grep -lx umm-engine "/proc/$program"/task/*/comm)")
	awk '{ print $14 + $15 }' "$task/stat"
}

# Where nothing happens there is room already, as far as the upper watermark, and the engine takes
# some hundredths of a CPU at most.
idle() {
	local before

	need_userfaultfd
	start_program
	for _ in {1..300}; do
		[ "$(host_now)" -ge 28 ] || break
		sleep 0.1
	done
	[ "$(host_now)" -lt 28 ] || fail "no room is made ahead of need: $(host_now)"
	before=$(engine_ticks)
	sleep 3
	[ $(($(engine_ticks) - before)) -le $((3 * $(getconf CLK_TCK) / 10)) ] ||
		fail "the engine is busy: $before, then $(engine_ticks) ticks"
}

# Rates, of a program that reads all that it has, round and round.
top_rates() {
	need_userfaultfd
	start_program scans
	for _ in {1..20}; do
		expect 124 timeout 2.5 "$umm" top --interval 1 "$program"
		! awk '/touches/ { n++; touches = $2 + 0; hits = $5; pressure = $(NF - 1) }
			/home/ { home = $(NF - 3) }
			END { exit !(n >= 2 && touches > 0 && hits > 0 && hits <= 100 &&
				pressure > 0 && home > 0) }' "$scratch/out" || return 0
	done
	fail "no rates: $(cat "$scratch/out")"
}

# A program that needs half as much again as it may keep, and all of it, is said to thrash.
top_thrash() {
	need_userfaultfd
	"$umm" run "${limits[@]}" "$victims/victim_heat" thrash_until_killed 32 >"$scratch/waits" 2>&1 &
	program=$!
	for _ in {1..600}; do
		"$umm" top --once "$program" >"$scratch/out" 2>"$scratch/err" || true
		! grep -q THRASHING "$scratch/out" || break
		kill -0 "$program" 2>/dev/null || fail "it was never said: $(cat "$scratch"/waits)"
		sleep 0.05
	done
	says out THRASHING
	kill "$program"
	wait "$program" 2>/dev/null || true
	program=
}

# The number of an "umm run" that waits for its program means the program.
runner() {
	local runner child

	need_userfaultfd
	limits+=(--summary)
	start_program
	runner=$program
	child=$(cat "/proc/$runner/task/$runner/children" 2>/dev/null) ||
		skip "this kernel does not list children"
	program=${child// /}
	expect 0 "$umm" top --once "$runner"
	says out "$program victim_memory"
	expect 0 "$umm" set "$runner" host-limit=24M
	expect 0 "$umm" map --seconds 0 -o "$scratch/map.svg" "$runner"
	grep -q "($program)" "$scratch/map.svg" || fail "it draws something else"
	expect 0 "$umm" trace --seconds 0.1 -o "$scratch/trace" "$runner"
	kill -9 "$program"
	wait "$runner" 2>/dev/null || true
	program=
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

# A program that has given up root's rights is another user's from there on, and so is what it tells.
other_user() {
	local pid

	[ "$(id -u)" = 0 ] || skip "only root can become somebody else"
	need_userfaultfd
	start_program waits_as_nobody
	[ "$(stat -c '%u %a' "/dev/shm/umm-65534-$program")" = '65534 600' ] ||
		fail "$(ls -l /dev/shm)"
	[ ! -e "/dev/shm/umm-0-$program" ] || fail "the old name is left behind"
	expect 0 "$umm" set "$program" host-limit=48M
	kill -9 "$program"
	wait "$program" 2>/dev/null || true
	rm "/dev/shm/umm-65534-$program"
	program=
	expect 0 "$umm" run "${limits[@]}" --summary "$victims/victim_memory" drops_rights_first
	says err 'umm: memory of victim_memory'
	pid=$(sed -nE 's/^umm: memory of .* \(([0-9]+)\)$/\1/p' "$scratch/err")
	[ -z "$(find /dev/shm -name "umm-*-$pid")" ] || fail "its shared memory is left behind"
}

"$case_name"
