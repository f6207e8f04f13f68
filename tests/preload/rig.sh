# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What the tests of the umm command share: sourced after $umm, $victims and UMM_TIER_PATH are set.

scratch=$(mktemp -d)
program=
trap '[ -z "$program" ] || kill -9 "$program" 2>/dev/null || true; umount "$scratch/disk" 2>/dev/null || true; rm -rf "$scratch"' EXIT
limits=(--device ref=1G --host-limit 32M)

fail() {
	printf 'FAILED: %s\n' "$*" >&2
	exit 1
}

skip() {
	printf 'SKIPPED: %s\n' "$*"
	exit 77
}

# expect STATUS COMMAND...: its output goes to out and err
expect() {
	local wanted=$1 status=0

	shift
	"$@" >"$scratch/out" 2>"$scratch/err" </dev/null || status=$?
	[ "$status" -eq "$wanted" ] ||
		fail "$* exited with $status, not $wanted: $(cat "$scratch/out" "$scratch/err")"
}

says() { # FILE TEXT
	grep -qF -- "$2" "$scratch/$1" || fail "\"$2\" is missing in: $(cat "$scratch"/{out,err})"
}

need_userfaultfd() {
	"$umm" info --json | grep -qE '"access": "(syscall|device)"' ||
		skip "userfaultfd is refused, or fails system calls"
}

# A program that keeps 128 MiB, and waits or what else is said; its number is in $program.
start_program() { # [CASE]
	: >"$scratch/waits"
	"$umm" run "${limits[@]}" "$victims/victim_memory" "${1-waits}" >"$scratch/waits" 2>&1 &
	program=$!
	for _ in {1..300}; do
		! grep -q ready "$scratch/waits" || return 0
		sleep 0.1
	done
	fail "it does not get ready: $(cat "$scratch/waits")"
}

# Every thread of it.
stop_program() {
	kill -STOP "$program"
	for _ in {1..300}; do
		cat "/proc/$program/task"/*/status | grep '^State:' | grep -qv 'T (stopped)' || return 0
		sleep 0.1
	done
	fail "it does not stop"
}

# It has come so far as to catch SIGTERM.
catches_term() { # PID
	for _ in {1..300}; do
		! (((0x$(awk '/^SigCgt/ { print $2 }' "/proc/$1/status") >> 14) & 1)) || return 0
		sleep 0.1
	done
	fail "it does not get ready"
}

# A file system of so many bytes at $scratch/disk.
small_disk() { # BYTES
	[ "$(id -u)" = 0 ] || skip "only root can make a small file system"
	mkdir -p "$scratch/disk"
	mount -t tmpfs -o size="$1" none "$scratch/disk" 2>/dev/null ||
		skip "file systems cannot be mounted here"
}
