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

"$case_name"
