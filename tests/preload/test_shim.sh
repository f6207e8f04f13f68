#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Programs that know nothing of libumm, under the shim, with memory for several times the limit.
# 77 is a skip and says why.
# usage: test_shim.sh CASE SHIM TIERS VICTIMS
set -euo pipefail

case_name=$1 shim=$2 tiers=$3 victims=$4
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
limit=32M

fail() {
	printf 'FAILED: %s\n' "$*" >&2
	exit 1
}

skip() {
	printf 'SKIPPED: %s\n' "$*"
	exit 77
}

# shim [VARIABLE=VALUE...] COMMAND...: its output goes to out and err
shim() {
	local status=0

	env UMM_DEVICE=ref=1G UMM_HOST_LIMIT=$limit UMM_TIER_PATH="$tiers" UMM_SUMMARY=1 \
		VICTIM_LIBRARY="$victims/libvictim_library.so" \
		VICTIM_LIBRARY_OWN="$victims/libvictim_library_own.so" LD_PRELOAD="$shim" "$@" \
		>"$scratch/out" 2>"$scratch/err" </dev/null || status=$?
	if grep -qE 'managed memory: (userfaultfd|This kernel|System calls)' "$scratch/err" &&
		[[ $case_name != @(refused|capabilities|child_*) ]]; then
		skip "$(cat "$scratch/err")"
	fi
	return "$status"
}

says() { # FILE TEXT
	grep -qF -- "$2" "$scratch/$1" || fail "\"$2\" is missing in: $(cat "$scratch"/{out,err})"
}

summary() { # WHAT: the number behind it
	awk -v what="$1" 'index($0, "  " what " ") == 1 { n = $(NF - ($NF == "MiB")) }
		END { print n + 0 }' "$scratch/err"
}

# The program in the background, which has said which process it is, is told once its engine is stuck.
tell_when_stuck() { # RUNNER
	until grep -q 'whoever needs room waits' "$scratch/err" 2>/dev/null; do
		kill -0 "$1" 2>/dev/null || {
			wait "$1" || [ $? -ne 77 ] || exit 77
			fail "it ended: $(cat "$scratch"/{out,err})"
		}
		sleep 0.1
	done
	kill "$(told process)"
	wait "$1" || fail "it exited with $?: $(cat "$scratch"/{out,err})"
}

at_least() { # WHAT NUMBER
	awk -v n="$(summary "$1")" -v least="$2" 'BEGIN { exit !(n >= least) }' ||
		fail "$1: $(summary "$1") is less than $2: $(cat "$scratch/err")"
}

at_most() { # WHAT NUMBER
	awk -v n="$(summary "$1")" -v most="$2" 'BEGIN { exit !(n <= most) }' ||
		fail "$1: $(summary "$1") is more than $2: $(cat "$scratch/err")"
}

# What it did was right, and memory left the host for it.
victim() {
	shim "$@" || fail "it exited with $?: $(cat "$scratch"/{out,err})"
	says out 'victim: all as it should be'
	at_least 'moved to devices' 30
	[ "$(summary 'pages lost with their device')" = 0 ] || fail "$(cat "$scratch/err")"
}

memory_cases='closes family resize sweep arrays threads forks calls library deepbind clones mappings'

# What is freed is free at once: on the device, which has no room for two of these arrays, and in the
# count of what is in the host.
reuse() {
	victim UMM_DEVICE=ref=112M "$victims/victim_memory" reuse
	! grep -q full "$scratch/err" || fail "$(cat "$scratch/err")"
	at_most 'in host frames at most' 44
}

# What moves is libumm's still, and what a mapping grows by is filled page by page: neither counts
# as if all of it were in the host, where 128 MiB are.
remap() {
	victim "$victims/victim_memory" remap
	at_most 'in host frames at most' 98
	victim UMM_SAMPLING=probe "$victims/victim_memory" remap
	at_most 'in host frames at most' 98
}

# Random changes of mappings say what they say without the shim, and leave the same memory.
remap_as_ever() {
	local seed

	for seed in 1 3; do
		"$victims/victim_remap" $seed >"$scratch/native" 2>&1 || fail "$(cat "$scratch/native")"
		for word in EFAULT ENOMEM 'in place' 'as wanted' elsewhere; do
			grep -q "$word" "$scratch/native" || fail "nothing is $word with $seed"
		done
		for limit in 16M 4G; do
			shim timeout -s KILL 300 "$victims/victim_remap" $seed ||
				fail "$seed, $limit: $?: $(tail -n 3 "$scratch/out") $(cat "$scratch/err")"
			[ $limit != 16M ] || at_least 'moved to devices' 30
			diff "$scratch/native" "$scratch/out" >"$scratch/diff" ||
				fail "$seed, $limit: $(cat "$scratch/diff")"
		done
	done
}

# Forked children have a limit of their own, and leave nothing behind.
children() {
	local pid

	victim "$victims/victim_memory" children
	[ "$(grep -c '^child ' "$scratch/out")" = 2 ] || fail "$(cat "$scratch/out")"
	for pid in $(sed -n 's/^child //p' "$scratch/out"); do
		[ ! -e "/dev/shm/umm-$(id -u)-$pid" ] || fail "the shared memory of $pid is left"
	done
}

# The limit holds while a program fills memory as fast as it can: half a MiB for each fault server
# and what one round brings along come on top.
limit_holds() {
	limit=64M
	victim "$victims/victim_memory" sweep
	at_least 'in host frames at most' 40
	at_most 'in host frames at most' 76
}

# However a program brings memory to the host: no more is there than the limit, a block and what
# comes along with a touch, by the summary and by the count of a device that holds moves up.
crowd_ways() { # VARIABLE=VALUE...
	local way

	for way in touches empties reserves grows populates; do
		victim "$@" "$victims/victim_crowd" "$way" 96
		! grep exceeded "$scratch/err" || fail "$way: the limit is exceeded"
		[ "$(told 'most in the host:')" -le 35 ] || fail "$way: $(cat "$scratch/out")"
		at_most 'in host frames at most' 35
	done
}

crowd() {
	crowd_ways UMM_DEVICE=ref=1G
	crowd_ways UMM_DEVICE=ref:worker=1G UMM_SAMPLING=probe
}

# Likewise where each page that leaves waits for more that come.
crowd_held_up() {
	crowd_ways UMM_DEVICE=ref:stalls=1G
	crowd_ways UMM_DEVICE=ref:stalls+worker=1G UMM_MALLOC_THRESHOLD=0
}

# A program that may have few files open has room for those of the shim; or else is told so in a line.
descriptors() {
	local most fd

	# What whoever started the test has open would count, too; 255 is the shell's.
	for fd in /proc/$BASHPID/fd/*; do
		fd=${fd##*/}
		[ "$fd" -le 2 ] || [ "$fd" = 255 ] || eval "exec $fd>&-"
	done
	ulimit -n 60
	victim "$victims/victim_memory" sweep
	for most in 20 12 6; do
		(ulimit -n "$most" && shim UMM_SUMMARY=0 "$victims/victim_memory" sweep) ||
			fail "$?: $(cat "$scratch"/{out,err})"
		says out 'victim: all as it should be'
		[ "$(wc -l <"$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
		says err 'running without '
	done
}

# Pages are moved aside for a look while the program forks, moves and locks memory, and hands it to
# system calls. Of blocks that it works on some are seen to be in use.
probes() {
	local case

	for case in sweep forks remap calls mappings threads locks; do
		victim UMM_SAMPLING=probe "$victims/victim_memory" "$case"
		at_least 'pages moved aside for a look' 1
	done
	victim UMM_SAMPLING=probe "$victims/victim_heat" blocks 32
	at_least '  that were touched' 1
}

# Small objects are managed, too, where that is asked for.
everything() {
	victim UMM_MALLOC_THRESHOLD=0 "$victims/victim_memory" threads
	victim UMM_MALLOC_THRESHOLD=0 "$victims/victim_new"
	victim UMM_MALLOC_THRESHOLD=0 "$victims/victim_memory" forks
}

# However long devices take to open, no program outruns them; unless it is the program that they
# wait for, which has the dynamic loader locked: then it does not wait for ever.
start() {
	victim UMM_DEVICE=ref:slow=1G "$victims/victim_new"
	at_most 'in host frames at most' 44
	victim VICTIM_LOADER=1 "$victims/victim_memory" library
}

worker() {
	victim UMM_DEVICE=ref:worker=1G "$victims/victim_memory" sweep
	victim UMM_DEVICE=ref:worker=1G "$victims/victim_memory" forks
}

# What a device's threads allocate and map, and threads that those start, is nobody's to manage.
hoards() {
	victim UMM_DEVICE=ref:hoards=1G "$victims/victim_memory" sweep
	at_most managed 32
	at_most 'in host frames at most' 44
}

new() {
	victim "$victims/victim_new"
}

# A library that brings its own allocator keeps it; what that maps is managed.
library_own() {
	victim "$victims/victim_ends" library
	at_most 'in host frames at most' 44
}

# Memory that its thread leaves behind, and what the thread's end allocates and frees.
thread_ends() {
	victim "$victims/victim_ends" threads
	at_most 'in host frames at most' 44
	victim UMM_MALLOC_THRESHOLD=0 "$victims/victim_ends" threads
	at_most 'in host frames at most' 44
}

# A child that shares all memory until it ends, or becomes another program, ends alone.
vforks() {
	victim "$victims/victim_ends" vforks
}

# What is managed is for thresholds to say.
thresholds() {
	victim UMM_MMAP_THRESHOLD=64K "$victims/victim_ends" mappings
	at_most 'in host frames at most' 44
	shim "$victims/victim_ends" mappings || fail "$?: $(cat "$scratch"/{out,err})"
	says err 'nothing left the host'
	shim UMM_MALLOC_THRESHOLD=5M "$victims/victim_memory" sweep || fail "$?: $(cat "$scratch"/{out,err})"
	says err 'nothing left the host'
	victim UMM_MALLOC_THRESHOLD=4M "$victims/victim_memory" sweep
}

# Libraries that allocate before the shim has started, more than the limit, and free after its end.
preloaded_first() {
	victim VICTIM_LOADER=1 LD_PRELOAD="$shim:$victims/libvictim_library.so" \
		"$victims/victim_memory" sweep
	victim VICTIM_LOADER=1 LD_PRELOAD="$victims/libvictim_library.so:$shim" \
		"$victims/victim_memory" sweep
}

own_malloc() {
	victim "$victims/victim_own_malloc"
}

# Nothing is configured: no line, no thread, no difference.
nothing() {
	shim UMM_DEVICE= UMM_HOST_LIMIT= UMM_SUMMARY=0 "$victims/victim_memory" sweep || fail "$?"
	says out 'victim: all as it should be'
	[ ! -s "$scratch/err" ] || fail "$(cat "$scratch/err")"
}

bad_settings() {
	shim UMM_HOST_LIMIT=lots "$victims/victim_memory" family || fail "$?"
	says err 'host-limit: "lots" is not a size'
	says out 'victim: all as it should be'
	shim UMM_DEVICE=nonsense:1 "$victims/victim_memory" sweep || fail "$?"
	says err 'there is no kind of device "nonsense"'
	says out 'victim: all as it should be'
	shim UMM_DEVICE=ref:refuses "$victims/victim_memory" sweep || fail "$?"
	says err 'device ref:refuses: it was told to refuse'
	shim UMM_DEVICE=ref:refuses UMM_QUIET=1 UMM_SUMMARY=0 "$victims/victim_memory" sweep ||
		fail "$?"
	[ ! -s "$scratch/err" ] || fail "$(cat "$scratch/err")"
}

# A file of the program's own at descriptor 2 has what the program wrote, whatever there is to say.
data_at_2() {
	for device in ref=16M ref:refuses; do
		shim UMM_DEVICE="$device" UMM_HINTS=nonsense "$victims/victim_raw" data_at_2 "$scratch/data" ||
			fail "$?: $(cat "$scratch"/{out,err})"
		says out 'victim: all as it should be'
		[ "$(cat "$scratch/data")" = $'begin\nend' ] || fail "$(cat "$scratch/data")"
	done
	# While it is what it was, lines go there.
	shim UMM_DEVICE=ref=16M UMM_HINTS=nonsense "$victims/victim_memory" sweep || fail "$?"
	says err 'umm: all devices are full'
	says err "libumm: warning: UMM_HINTS: 'nonsense' is no hint"
}

# Descriptors 8 and 9: pipes for writing that nobody reads, one full, one without any reader.
pipes_nobody_reads() {
	mkfifo "$scratch/full" "$scratch/broken"
	exec 7<>"$scratch/full" 8>"$scratch/full"
	dd if=/dev/zero of=/dev/fd/7 bs=4096 oflag=nonblock 2>"$scratch/dd" || true
	grep -q 'temporarily unavailable' "$scratch/dd" || fail "$(cat "$scratch/dd")"
	exec 6<>"$scratch/broken" 9>"$scratch/broken" 6>&-
}

# What there is to say from the program's own threads and at its end neither ends nor holds it up.
nobody_reads() {
	pipes_nobody_reads
	truncate -s 64M "$scratch/long"
	exec 5>>"$scratch/long"
	for case in filters_late filters_early syscalls; do
		for to in 5 8 9; do
			shim UMM_HINTS=nonsense timeout -s KILL 120 bash -c 'ulimit -f 65536
				exec "$2" "$3" 2>&"$1"' - $to "$victims/victim_raw" "$case" ||
				fail "$case to $to: $?: $(cat "$scratch"/{out,err})"
			says out 'victim: all as it should be'
		done
	done
	[ "$(stat -c %s "$scratch/long")" = $((64 << 20)) ] || fail "it is longer"
}

# A program that filters its system calls, with its memory on devices or before: it goes on as without
# the shim, and one line says so.
filters() {
	local case way

	for case in filters_late filters_early filters_forks; do
		for way in '' seccomp; do
			[ -z "$way" ] || [ "$(uname -m)" = x86_64 ] || continue
			shim UMM_SUMMARY=0 "$victims/victim_raw" "$case" $way ||
				fail "$case $way: $?: $(cat "$scratch"/{out,err})"
			says out 'victim: all as it should be'
			[ "$(wc -l <"$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
			says err 'umm: a filter of system calls is set'
		done
	done
	shim "$victims/victim_raw" filters_among_threads || fail "$?: $(cat "$scratch"/{out,err})"
	[ "$(grep -c 'filter of system calls is set' "$scratch/err")" = 2 ] || fail "$(cat "$scratch/err")"
	shim "$victims/victim_raw" filters_late || fail "$?"
	at_least 'moved to devices' 30
	[ "$(summary ref)" = 0 ] || fail "$(cat "$scratch/err")"
}

# Namespaces that a process of one thread may enter: the engine's threads are not in the way.
namespaces() {
	local status ways='unshare setns'

	[ "$(uname -m)" != x86_64 ] || ways+=' unshare_by_syscall setns_by_syscall'
	for way in $ways; do
		status=0
		shim UMM_SUMMARY=0 "$victims/victim_raw" namespaces $way || status=$?
		[ "$status" != 77 ] || skip "$(cat "$scratch/out")"
		[ "$status" = 0 ] || fail "$way: $status: $(cat "$scratch"/{out,err})"
		[ "$(wc -l <"$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
		says err 'umm: the program enters a namespace for processes of one thread: all memory'
	done
	victim "$victims/victim_raw" namespaces threads
	at_most 'in host frames at most' 44
}

# While all comes home, its thread runs no handler that would wait for that; a second one that sets a
# filter waits for the first.
filters_meanwhile() {
	for case in filters_and_forks filters_twice; do
		shim timeout -s KILL 120 "$victims/victim_raw" "$case" ||
			fail "$case: $?: $(cat "$scratch"/{out,err})"
		says out 'victim: all as it should be'
		[ "$(grep -c 'filter of system calls is set' "$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
		[ "$(grep -c 'umm: memory of' "$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
	done
}

# An engine that has waited for the loader, and comes after the filter, opens nothing.
filters_while_loading() {
	shim VICTIM_LOADER=filters timeout -s KILL 120 "$victims/victim_raw" filters_while_loading ||
		fail "$?: $(cat "$scratch"/{out,err})"
	says out 'victim: all as it should be'
	says err 'umm: a filter of system calls is set: all memory'
	[ "$(wc -l <"$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
}

# A process that is made past the C library's fork() finds all of the parent's memory.
past_fork() {
	local way ways='_Fork clone handler'

	[ "$(uname -m)" != x86_64 ] || ways+=' sys_fork sys_clone sys_clone3'
	for way in $ways; do
		victim "$victims/victim_raw" children_past_fork "$way"
		[ "$(grep -c '^umm: a process is made past fork(): all memory' "$scratch/err")" = 1 ] ||
			fail "$way: $(cat "$scratch/err")"
		[ "$(summary ref)" = 0 ] || fail "$way: $(cat "$scratch/err")"
	done
}

# Where memory cannot come home there is no such process.
past_fork_stuck() {
	shim UMM_DEVICE=ref:sticks=1G timeout -s KILL 300 "$victims/victim_raw" filters_when_told child &
	tell_when_stuck $!
	says out 'victim: all as it should be'
	says err 'umm: a process is made past fork() while what moves pages to devices is stuck'
}

# A call that sets no filter changes nothing.
filters_not() {
	victim timeout -s KILL 300 "$victims/victim_raw" filters_not
	! grep -q filter "$scratch/err" || fail "$(cat "$scratch/err")"
	at_most 'in host frames at most' 44
}

# What cannot come home stays where it is, and the line says so.
filters_stuck() {
	shim UMM_DEVICE=ref:sticks=1G timeout -s KILL 300 "$victims/victim_raw" filters_when_told &
	tell_when_stuck $!
	says out 'victim: all as it should be'
	says err 'umm: a filter of system calls is set while what moves pages to devices is stuck'
	says err 'numbers are those before'
	! grep -q 'all memory of the program is ordinary' "$scratch/err" || fail "$(cat "$scratch/err")"
}

# What goes through syscall() is seen as what goes through the C library's own functions, and else
# does what it always did.
on_x86_64() {
	[ "$(uname -m)" = x86_64 ] || skip "system calls are seen on x86-64 only"
}

syscalls() {
	on_x86_64
	victim "$victims/victim_raw" syscalls
	at_most 'in host frames at most' 44
}

# Functions of the program's own that end in syscall() are seen, and are not called for that.
wraps_syscalls() {
	on_x86_64
	victim "$victims/victim_wraps"
	at_most 'in host frames at most' 44
}

# What is in a pipe or a socket is what was sent, though its pages have been on a device since.
lends() {
	local to way ways=(function)

	[ "$(uname -m)" != x86_64 ] || ways+=(number)
	for to in pipe socket; do
		for way in "${ways[@]}"; do
			victim "$victims/victim_lends" "$to" "$way"
		done
	done
	[ "$(uname -m)" = x86_64 ] || return 0
	for way in send sendmsg sys_sendto sys_sendmmsg; do
		victim "$victims/victim_lends" inherited "$way"
	done
}

closes_by_syscall() {
	on_x86_64
	victim "$victims/victim_raw" closes_by_syscall
}

# A thread with other descriptors at our numbers, or none, says nothing about those of the others.
closes_in_own_table() {
	victim timeout -s KILL 300 "$victims/victim_raw" closes_in_own_table
	at_least 'moved to devices' 60
}

# Where the kernel has no close_range(), or a container refuses unshare(), or both.
keeps_in_containers() {
	local calls status

	for calls in close_range unshare close_range,unshare; do
		# The shim is not for the one that sets the filter.
		shim LD_PRELOAD= "$victims/refuses" "$calls" env LD_PRELOAD="$shim" timeout -s KILL 120 \
			"$victims/victim_raw" closes_a_pipe || fail "$calls: $?: $(cat "$scratch"/{out,err})"
		says out 'victim: all as it should be'
	done
	[ "$(uname -m)" = x86_64 ] || return 0
	status=0
	shim LD_PRELOAD= "$victims/refuses" unshare env LD_PRELOAD="$shim" timeout -s KILL 120 \
		"$victims/victim_raw" closes_by_instruction || status=$?
	[ "$status" = 134 ] || fail "it exited with $status: $(cat "$scratch"/{out,err})"
	says err 'umm: the program has closed descriptors'
}

# What nobody can see: the program never reads what it did not write, and is ended with one line.
closes_by_instruction() {
	local status=0

	on_x86_64
	shim timeout -s KILL 120 "$victims/victim_raw" closes_by_instruction || status=$?
	[ "$status" = 134 ] || fail "it exited with $status: $(cat "$scratch"/{out,err})"
	[ "$(grep -vc ^libumm "$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
	says err 'umm: the program has closed descriptors'
}

# Devices that are full: the program goes on, over its limit, and one line says so.
full() {
	shim UMM_DEVICE=ref=16M "$victims/victim_memory" sweep || fail "$?"
	says out 'victim: all as it should be'
	[ "$(grep -c 'all devices are full' "$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
}

# The numbers behind the lines of the program's output that begin with so.
told() { # TEXT
	sed -nE "s/^$1 ([0-9]+).*/\1/p" "$scratch/out"
}

# What is hot stays, although everything is read once, from end to end, through a host that holds a
# quarter: of 2730 hot pages few are found gone meanwhile, and most are in the host after it. Each
# page of the scan came home by a touch or along with one, few of them by a touch.
scan() {
	victim "$victims/victim_heat" scan 32
	[ "$(told before)" -le 273 ] || fail "what is hot does not stay: $(cat "$scratch/out")"
	[ "$(told during)" -le 205 ] || fail "what is hot leaves: $(cat "$scratch/out")"
	[ "$(told kept)" -ge 1911 ] || fail "what is hot is gone: $(cat "$scratch/out")"
	[ "$(told 'scanned 32768, came home by a touch')" -le 8192 ] ||
		fail "the scan waits for each page: $(cat "$scratch/out")"
	at_least 'pages brought along' 20000
	at_most 'in host frames at most' 44
}

# Half as much again as the host may keep, round and round, in an order that nobody can guess. Who
# puts away the oldest misses each page of each pass, 12288; who knows the future a third, and as
# much of the rest as the host's watermarks keep free.
thrash() {
	victim "$victims/victim_heat" thrash 32
	[ "$(told 'pass [0-9]+: missed' | wc -l)" = 12 ] || fail "$(cat "$scratch/out")"
	told 'pass [0-9]+: missed' | awk 'NR > 6 { sum += $1 } END { exit !(sum <= 6 * 12288 * 0.7) }' ||
		fail "it is not damped: $(cat "$scratch/out")"
	told 'pass [0-9]+: missed' | awk 'NR > 6 { sum += $1 } END { exit !(sum >= 6 * 12288 * 0.3) }' ||
		fail "the limit is not kept: $(cat "$scratch/out")"
	at_least '  of pages that were known to be hot' 12288
	at_most 'in host frames at most' 44
}

# Root's rights are given up, before memory matters and after: the limit holds on, and nothing is left
# behind, be it by the old name or by the new one.
drops_rights() {
	local pid case

	[ "$(id -u)" = 0 ] || skip "only root has rights to give up"
	for case in drops_rights drops_rights_first; do
		victim "$victims/victim_memory" "$case"
		! grep -q running "$scratch/err" || fail "$(cat "$scratch/err")"
		pid=$(sed -nE 's/^umm: memory of .* \(([0-9]+)\)$/\1/p' "$scratch/err")
		[ -z "$(find /dev/shm -name "umm-*-$pid")" ] || fail "shared memory is left behind"
	done
	at_most 'in host frames at most' 44
}

only_root_may() {
	[ "$(id -u)" = 0 ] || skip "only root has rights to give up"
	[ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" = 0 ] || skip "everybody may"
	[ ! -e /dev/userfaultfd ] || [ "$(stat -c %a /dev/userfaultfd)" = 600 ] ||
		skip "/dev/userfaultfd is open to all"
}

# Who has given up root's rights keeps to its limit; its child may open no userfaultfd of its own: it
# runs without, says so, and does what is right.
child_without_rights() {
	only_root_may
	shim "$victims/victim_memory" child_without_rights || fail "$?: $(cat "$scratch/err")"
	says out 'victim: all as it should be'
	[ "$(grep -c 'running without managed memory' "$scratch/err")" = 1 ] ||
		fail "$(cat "$scratch/err")"
	at_least 'moved to devices' 30
	at_most 'in host frames at most' 44
}

# Capabilities that a program drops by itself, with a system call: nobody is told. The limit holds if
# the engine was there before, and where root may open /dev/userfaultfd for being root. Else the
# program runs without, and says so.
capabilities() {
	only_root_may
	victim "$victims/victim_memory" drops_capabilities
	! grep -q running "$scratch/err" || fail "$(cat "$scratch/err")"
	at_most 'in host frames at most' 44
	if [ -e /dev/userfaultfd ]; then
		victim "$victims/victim_memory" drops_capabilities_first
		at_most 'in host frames at most' 44
		return
	fi
	shim "$victims/victim_memory" drops_capabilities_first || fail "$?: $(cat "$scratch/err")"
	says out 'victim: all as it should be'
	[ "$(grep -c 'running without managed memory' "$scratch/err")" = 1 ] ||
		fail "$(cat "$scratch/err")"
}

# Several: the second takes what the first has no room for.
several() {
	victim UMM_DEVICE=ref=16M,ref:worker=1G "$victims/victim_memory" calls
	at_least ref:worker 8
}

# What a program locks stays in the host. Only where that alone is over the limit something is said.
locks() {
	shim "$victims/victim_memory" locks || [ $? != 77 ] || skip "memory cannot be locked here"
	says out 'victim: all as it should be'
	! grep -q pinned "$scratch/err" || fail "$(cat "$scratch/err")"
	limit=20M
	victim "$victims/victim_memory" locks
	[ "$(grep -c 'pinned .* the host limit is exceeded' "$scratch/err")" = 1 ] ||
		fail "$(cat "$scratch/err")"
	victim "$victims/victim_memory" locks_all
	! grep -q error "$scratch/err" || fail "$(cat "$scratch/err")"
}

# The kinds of memory that come with libumm.
kind() { # KIND DEVICE
	[ -e "$(dirname "$shim")/umm/tier-$1.so" ] || skip "libumm was built without $1"
	shim UMM_DEVICE="$2" "$victims/victim_memory" calls || fail "$?: $(cat "$scratch"/{out,err})"
	! grep -E 'running without (it|managed)' "$scratch/err" || skip "no $1 device can be used here"
	victim UMM_DEVICE="$2" "$victims/victim_memory" calls
	at_least "${2%=*}" 30
	victim UMM_DEVICE="$2" "$victims/victim_memory" sweep
	victim UMM_DEVICE="$2" "$victims/victim_memory" forks
	victim UMM_DEVICE="$2" UMM_MALLOC_THRESHOLD=0 "$victims/victim_memory" threads
}

opencl() {
	kind opencl opencl:pthread=512M
}

numa() {
	kind numa numa:far=512M
}

# A program with a sanitizer in it: the runtime comes first and keeps malloc() to itself, mappings
# are the shim's.
sanitized() { # SHORT
	local program=$victims/victim_$1 runtime

	[ -x "$program" ] || skip "the compiler has no such sanitizer"
	runtime=$(ldd "$program" | awk -v name="lib$1" 'index($1, name) == 1 { print $3 }')
	[ -n "$runtime" ] || skip "its runtime is linked in, and so cannot be the first library"
	shim=$runtime:$shim
	export ASAN_OPTIONS=detect_leaks=0
	victim "$program" mappings
}

asan() {
	sanitized asan
}

tsan() {
	sanitized tsan
}

# No permission for userfaultfd: the program runs, one line says why.
refused() {
	[ "$(id -u)" = 0 ] || skip "only root can give up root"
	command -v setpriv >/dev/null || skip "there is no setpriv (Debian: util-linux)"
	[ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" = 0 ] || skip "everybody may"
	[ ! -w /dev/userfaultfd ] || [ "$(stat -c %a /dev/userfaultfd)" = 600 ] ||
		skip "/dev/userfaultfd is open to all"
	chmod 755 "$scratch"
	cp "$shim" "$(dirname "$shim")"/../libumm.so.0 "$victims/victim_memory" "$scratch"
	shim=$scratch/libumm_preload.so
	shim LD_LIBRARY_PATH="$scratch" setpriv --reuid=65534 --clear-groups --bounding-set=-all \
		"$scratch/victim_memory" sweep || fail "$(cat "$scratch/err")"
	says err 'umm: running without managed memory: '
	says out 'victim: all as it should be'
	[ "$(grep -vc 'nothing left the host' "$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
}

# A program that runs with more rights than its user has is left alone.
setuid() {
	[ "$(id -u)" = 0 ] || skip "only root can make a setuid program"
	command -v setpriv >/dev/null || skip "there is no setpriv (Debian: util-linux)"
	chmod 755 "$scratch"
	cp "$victims/victim_memory" "$scratch/victim"
	chmod 4755 "$scratch/victim"
	findmnt -T "$scratch" -no OPTIONS | grep -qw nosuid && skip "$scratch is mounted nosuid"
	setpriv --reuid=65534 --clear-groups env UMM_DEVICE=ref=1G UMM_HOST_LIMIT=32M \
		UMM_SUMMARY=1 UMM_TIER_PATH="$tiers" LD_PRELOAD="$shim" "$scratch/victim" sweep \
		>"$scratch/out" 2>"$scratch/err" || fail "$?: $(cat "$scratch/err")"
	says out 'victim: all as it should be'
	! grep -q 'umm: ' "$scratch/err" || fail "the shim was there: $(cat "$scratch/err")"
}

# A device that dies takes the pages that are only there with it: SIGBUS, and no zeroes.
dies() {
	local status=0

	shim UMM_DEVICE=ref:dies=1G "$victims/victim_memory" sweep || status=$?
	[ "$status" -eq 135 ] || fail "it exited with $status: $(cat "$scratch"/{out,err})"
	[ "$(wc -l <"$scratch/err")" = 1 ] || fail "not one line: $(cat "$scratch/err")"
	says err 'umm: device ref:dies failed: '
}

# Only those pages: nothing goes to a dead device any more, and the summary says what was lost. Where there
# is another device the limit holds on; else one line says that it does not.
outlives() {
	local devices lost

	for devices in ref:dies=1G ref:dies=64M,ref:worker=1G; do
		shim UMM_DEVICE=$devices "$victims/victim_memory" outlives ||
			fail "it exited with $?: $(cat "$scratch"/{out,err})"
		says out 'victim: all as it should be'
		lost=$(told lost:)
		[ "$lost" -gt 0 ] || fail "nothing was lost"
		[ "$(summary 'pages lost with their device')" = "$lost" ] ||
			fail "$lost pages were lost: $(cat "$scratch/err")"
		[ "$(grep -c 'device ref:dies failed' "$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
		says err 'failed while the program ran'
		! grep libumm "$scratch/err" || fail "more than a line: $(cat "$scratch/err")"
		[ "$devices" != ref:dies=1G ] || says err 'the host limit is exceeded'
	done
	! grep exceeded "$scratch/err" || fail "the limit is exceeded"
	at_most 'in host frames at most' 44
}

# A device that never ends what it was told to do: 4 MiB more than else come to the host, one line says
# why the program waits, and it can be ended.
stuck() {
	local runner

	shim UMM_DEVICE=ref:sticks=1G timeout -s KILL 300 "$victims/victim_memory" scans_until_told &
	runner=$!
	tell_when_stuck "$runner"
	says out 'victim: all as it should be'
	says err 'numbers are those before'
	[ "$(summary 'pages let in while none could leave')" -ge 1024 ] || fail "$(cat "$scratch/err")"
	[ "$(told 'in the host:')" -le $((42 * 256)) ] || fail "$(cat "$scratch/out")"
}

case " $memory_cases " in
*" $case_name "*)
	victim "$victims/victim_memory" "$case_name"
	[ "$case_name" != mappings ] || at_most 'in host frames at most' 44
	;;
*) "$case_name" ;;
esac
