#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# umm map: the picture is well-formed and shows what the program did. 77 is a skip and says why.
# usage: test_map.sh CASE UMM TIERS VICTIMS
set -euo pipefail

case_name=$1 umm=$2 victims=$4
export UMM_TIER_PATH=$3 XDG_CONFIG_HOME=/nonexistent
# shellcheck source=tests/preload/rig.sh
. "$(dirname "$0")/rig.sh"

picture=$scratch/map.svg

well_formed() {
	command -v xmllint >/dev/null || skip "there is no xmllint (Debian: libxml2-utils)"
	xmllint --noout "$picture" || fail "not well-formed: $(head -c 2000 "$picture")"
}

described() { # LOOK WHAT: MiB of it, as the description says
	sed -nE "s/.*$1: .*$2 ([0-9]+)\.[0-9] MiB.*/\1/p" "$picture"
}

# What the rectangles of the first or last column say, MiB: each line of them is 2 MiB of addresses.
drawn() { # first|last host|devices
	sed -n '/<g id="cells">/,/<\/g>/p' "$picture" | awk -v column="$1" -v what="$2" '
		/<rect/ {
			match($0, /class="[a-z]+[0-8]?/); class = substr($0, RSTART + 7, RLENGTH - 7)
			match($0, / x="[0-9.]+/); x = 0 + substr($0, RSTART + 4, RLENGTH - 4)
			match($0, /width="[0-9.]+/); w = 0 + substr($0, RSTART + 7, RLENGTH - 7)
			if (column == "first" ? x != 130 : x + w < 849)
				next
			if (class !~ /^d/)
				next
			share = substr(class, 2) / 8
			sum += 2 * (what == "devices" ? share : 1 - share)
		}
		END { print int(sum + 0.5) }'
}

between() { # WHAT NUMBER LEAST MOST
	{ [ "$2" -ge "$3" ] && [ "$2" -le "$4" ]; } ||
		fail "$1: $2 is not in $3..$4: $(grep -v '<rect' "$picture")"
}

# Where memory is, then that more of it leaves when the limit shrinks, and who allocated it.
shows_what_left() {
	need_userfaultfd
	start_program
	"$umm" map --seconds 6 -o "$picture" "$program" 2>"$scratch/err" &
	map=$!
	sleep 2
	"$umm" set "$program" host-limit=20M
	wait "$map" || fail "umm map exited with $?: $(cat "$scratch/err")"
	well_formed
	between 'first, devices' "$(described first devices)" 96 128
	between 'first, host' "$(described first host)" 8 32
	between 'last, devices' "$(described last devices)" 108 128
	between 'last, host' "$(described last host)" 1 20
	between 'first column, devices' "$(drawn first devices)" 90 130
	between 'first column, host' "$(drawn first host)" 8 40
	between 'last column, devices' "$(drawn last devices)" 104 130
	between 'last column, host' "$(drawn last host)" 1 26
	grep -qE 'class="site".*victim_memory\+0x[0-9a-f]+ \(128\.0 MiB\)' "$picture" ||
		fail "who allocated it is missing: $(grep '<text' "$picture")"
	! grep -q '<circle' "$picture" || fail "it waits, and touches nothing"
}

# A program that reads everything in turn touches all of it on devices.
shows_touches() {
	need_userfaultfd
	start_program scans
	expect 0 "$umm" map --seconds 5 -o "$picture" "$program"
	well_formed
	[ "$(grep -c '<circle' "$picture")" -ge 30 ] || fail "$(grep -c '<circle' "$picture") touches"
}

# A program that filters its system calls has nobody any more who would answer: that is said at once.
says_that_it_rests() {
	local pid='' verb

	need_userfaultfd
	"$umm" run "${limits[@]}" --summary "$victims/victim_raw" filters_and_waits >"$scratch/waits" 2>&1 &
	program=$!
	for _ in {1..300}; do
		pid=$(sed -n 's/^process //p' "$scratch/waits")
		[ -z "$pid" ] || break
		sleep 0.1
	done
	[ -n "$pid" ] || fail "$(cat "$scratch/waits")"
	expect 1 "$umm" set "$pid" host-limit=20M
	says err "process $pid filters its system calls"
	for verb in map trace; do
		expect 1 "$umm" "$verb" --seconds 1 -o "$scratch/file" "$pid"
		says err "process $pid filters its system calls"
	done
	expect 0 "$umm" top --once "$pid"
	says out victim_raw
	kill -9 "$pid"
	wait "$program" || true
	says waits 'moved to devices'
}

# One look; on standard output; the program's end is the picture's end.
ends_with_the_program() {
	need_userfaultfd
	start_program
	"$umm" map --seconds 0 "$program" >"$picture"
	well_formed
	"$umm" map --seconds 60 -o "$picture" "$program" 2>"$scratch/err" &
	map=$!
	catches_term "$map"
	sleep 1
	kill -9 "$program"
	wait "$map" || fail "it exited with $?: $(cat "$scratch/err")"
	well_formed
	between 'last, devices' "$(described last devices)" 96 128
	# Nor does an interrupt lose what was seen.
	start_program
	"$umm" map --seconds 60 -o "$picture" "$program" 2>"$scratch/err" &
	map=$!
	catches_term "$map"
	sleep 1
	kill -TERM "$map"
	wait "$map" || fail "it exited with $?: $(cat "$scratch/err")"
	well_formed
}

full_disk() {
	need_userfaultfd
	start_program
	expect 1 "$umm" map --seconds 0 -o /dev/full "$program"
	says err 'umm map: writing /dev/full: No space left on device; there is no picture'
	[ -c /dev/full ] || fail "it removed /dev/full"
	expect 1 "$umm" map --seconds 0 -o "$scratch/none/map.svg" "$program"
	says err 'No such file'
	expect 1 bash -c '"$@" >/dev/full' - "$umm" map --seconds 0 "$program"
	says err 'writing standard output'
	small_disk 4k
	expect 1 "$umm" map --seconds 0 -o "$scratch/disk/map.svg" "$program"
	says err 'No space left on device'
	[ ! -e "$scratch/disk/map.svg" ] || fail "half a picture is left"
}

file_size_limit() {
	need_userfaultfd
	start_program
	expect 1 bash -c 'ulimit -f 1; exec "$@"' - "$umm" map --seconds 0 -o "$picture" "$program"
	says err 'map.svg: File too large; there is no picture'
	[ ! -e "$picture" ] || fail "half a picture is left"
}

# Where it cannot be written is said before the program is looked at for long.
says_at_once_that_it_cannot_write() {
	need_userfaultfd
	start_program
	expect 1 timeout 60 "$umm" map --seconds 600 -o "$scratch/none/map.svg" "$program"
	says err 'map.svg: No such file or directory; there is no picture'
	expect 1 timeout 60 bash -c '"$@" >&-' - "$umm" map --seconds 600 "$program"
	says err 'writing standard output: Bad file descriptor; there is no picture'
	expect 1 timeout 60 bash -c '"$@" >&- <&-' - "$umm" map --seconds 0 "$program"
	says err 'writing standard output: Bad file descriptor; there is no picture'
}

# A look that comes to nothing takes no earlier picture, and leaves no file, of any name.
keeps_the_one_before() {
	need_userfaultfd
	start_program
	stop_program
	echo earlier >"$picture"
	ln -s map.svg "$scratch/kept"
	ln -s none.svg "$scratch/new"
	for file in "$picture" "$scratch/kept" "$scratch/new" "$scratch/none.svg"; do
		: >"$scratch/err"
		"$umm" map --seconds 0 -o "$file" "$program" 2>"$scratch/err" &
		map=$!
		for _ in {1..300}; do
			! grep -q 'waiting for process' "$scratch/err" || break
			sleep 0.1
		done
		kill -INT "$map"
		! wait "$map" || fail "it exited with 0"
		says err 'interrupted before the program could be looked at'
		[ "$(cat "$picture")" = earlier ] || fail "the earlier picture is gone"
		[ ! -e "$scratch/none.svg" ] || fail "half a picture is left"
	done
	# The next one takes its place, whole; one that cannot be written leaves nothing of it.
	kill -CONT "$program"
	head -c 9999999 /dev/zero >"$picture"
	expect 0 "$umm" map --seconds 0 -o "$scratch/kept" "$program"
	[ -L "$scratch/kept" ] || fail "it removed the link"
	well_formed
	expect 1 bash -c 'ulimit -f 1; exec "$@"' - \
		"$umm" map --seconds 0 -o "$scratch/kept" "$program"
	[ ! -e "$picture" ] || fail "half a picture is left"
}

# Through a pipe, of a name or none, comes the whole picture.
writes_to_pipes() {
	need_userfaultfd
	start_program
	"$umm" map --seconds 0 "$program" | cat >"$picture"
	well_formed
	mkfifo "$scratch/pipe"
	cat "$scratch/pipe" >"$picture" &
	reader=$!
	expect 0 "$umm" map --seconds 0 -o "$scratch/pipe" "$program"
	wait "$reader"
	well_formed
	[ -p "$scratch/pipe" ] || fail "it removed the pipe"
	# One that nobody reads yet.
	"$umm" map --seconds 0 -o "$scratch/pipe" "$program" 2>"$scratch/err" &
	writer=$!
	for _ in {1..300}; do
		! grep -q 'waiting for somebody' "$scratch/err" || break
		sleep 0.1
	done
	[ "$(cat "$scratch/err")" = "umm map: $scratch/pipe: nobody reads it; waiting for somebody who does" ] ||
		fail "$(cat "$scratch/err")"
	cat "$scratch/pipe" >"$picture"
	wait "$writer" || fail "$(cat "$scratch/err")"
	well_formed
}

"$case_name"
