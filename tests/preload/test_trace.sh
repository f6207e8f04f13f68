#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# umm trace: the file has every event, or says how many it lacks, whatever happens to whom. 77 is a
# skip and says why.
# usage: test_trace.sh CASE UMM TIERS VICTIMS
set -euo pipefail

case_name=$1 umm=$2 victims=$4
export UMM_TIER_PATH=$3 XDG_CONFIG_HOME=/nonexistent
# shellcheck source=tests/preload/rig.sh
. "$(dirname "$0")/rig.sh"

trace=$scratch/trace.json

need_python() {
	command -v python3 >/dev/null || skip "there is no python3 (Debian: python3)"
}

# Loads the trace, then runs what is on standard input: events by category, totals by name.
examine() {
	cat - >"$scratch/examine"
	python3 - "$trace" "$scratch/examine" "$scratch/err" <<-'END' || fail "in the trace"
	import collections, json, re, sys
	events = json.load(open(sys.argv[1]))
	totals = events[-1]
	assert totals["name"] == "totals", totals
	totals = totals["args"]
	number, pages = collections.Counter(), collections.Counter()
	for e in events:
	    assert e["ph"] in "XCM" and isinstance(e["pid"], int), e
	    if e["ph"] != "X":
	        continue
	    assert e["ts"] > 0 and e["dur"] >= 0 and int(e["args"]["addr"], 16) >= 0, e
	    number[e["cat"]] += 1
	    pages[e["cat"]] += e["args"]["pages"]
	for kind, t in totals.items():
	    assert number[kind] == t["written"], (kind, number[kind], t)
	    assert t["seen"] >= t["written"] + t["dropped"], (kind, t)
	def summary(what):
	    found = re.search("^ *" + what + " +([0-9.]+)", open(sys.argv[3]).read(), re.M)
	    return float(found.group(1))
	def is_whole():
	    for kind, t in totals.items():
	        assert t["seen"] == t["written"] and not t["dropped"], (kind, t)
	        assert pages[kind] == t["pages"], (kind, t)
	exec(open(sys.argv[2]).read())
	END
}

# A program from its first event to its last: what the trace has is what its counters say.
counts_as_the_counters_do() {
	need_python
	need_userfaultfd
	expect 0 "$umm" trace -o "$trace" "${limits[@]}" --summary -- "$victims/victim_memory" sweep
	says out 'all as it should be'
	says err ' events, 0 dropped'
	examine <<-'END'
	is_whole()
	assert number["fault"] == summary("touches of pages on devices"), number
	assert number["fault"] >= 100 and number["evict"] >= 4 and number["grant"] >= 8, number
	assert abs(pages["evict"] / 256 - summary("moved to devices")) <= 0.1, pages
	home = (pages["fault"] + pages["bring along"]) / 256
	assert abs(home - summary("moved home")) <= 0.1, pages
	assert not number["fork"], number
	memory = [e["args"] for e in events if e["name"] == "memory"]
	assert max(m["devices MiB"] for m in memory) >= 60, memory
	assert max(m["host MiB"] for m in memory) <= 40, memory
	assert {e["args"].get("cause") for e in events if e.get("cat") == "evict"} == {"evict"}
	END
	# What a program frees last may be told of when it has ended; this one frees ten times.
	expect 0 "$umm" trace -o "$trace" "${limits[@]}" --summary -- "$victims/victim_memory" reuse
	examine <<-'END'
	is_whole()
	assert 8 <= number["invalidation"] <= 10, number
	END
}

forks_are_told_apart() {
	need_python
	need_userfaultfd
	expect 0 "$umm" trace -o "$trace" "${limits[@]}" --summary -- "$victims/victim_memory" forks
	examine <<-'END'
	is_whole()
	assert number["fork"] == 4, number
	assert pages["fork"] >= 4 * 1024, pages
	home = (pages["fault"] + pages["bring along"] + pages["fork"]) / 256
	last = [m for m in re.findall("moved home +([0-9.]+)", open(sys.argv[3]).read())][-1]
	assert abs(home - float(last)) <= 0.1, (pages, last)
	END
}

# One that runs already, until an interrupt; afterwards it may be traced again.
attaches() {
	need_python
	need_userfaultfd
	start_program scans
	for _ in 1 2; do
		"$umm" trace -o "$trace" "$program" 2>"$scratch/err" &
		tracer=$!
		wait_for_events
		expect 1 "$umm" trace -o "$scratch/other" "$program"
		says err 'is being traced already'
		kill -INT "$tracer"
		wait "$tracer" || fail "it exited with $?: $(cat "$scratch/err")"
		examine <<-'END'
		assert number["fault"] >= 10 and number["evict"] >= 1, number
		END
		rm "$trace"
	done
	expect 0 "$umm" trace --seconds 2 -o "$trace" "$program"
	examine <<<'assert number["fault"] >= 1, number'
}

wait_for_events() {
	for _ in {1..300}; do
		[ ! -e "$trace" ] || [ "$(stat -c %s "$trace")" -le 20000 ] || return 0
		sleep 0.1
	done
	fail "no events come: $(cat "$scratch/err")"
}

# Whoever is killed, the file is whole up to the last flush.
survives_kills() {
	need_python
	need_userfaultfd
	start_program scans
	"$umm" trace -o "$trace" "$program" 2>"$scratch/err" &
	tracer=$!
	wait_for_events
	kill -9 "$tracer"
	wait "$tracer" 2>/dev/null || true
	examine <<<'assert number["fault"] >= 10, number'
	rm "$trace"
	"$umm" trace -o "$trace" "$program" 2>"$scratch/err" &
	tracer=$!
	wait_for_events
	kill -9 "$program"
	wait "$tracer" || fail "it exited with $?: $(cat "$scratch/err")"
	examine <<<'assert number["fault"] >= 10, number'
	expect 137 bash -c '"$@"' - "$umm" trace -o "$trace" "${limits[@]}" -- sh -c 'kill -9 $$'
	examine <<<'assert not number, number'
}

# The file has its bound, and counts go on behind it.
is_bounded() {
	need_python
	need_userfaultfd
	expect 0 "$umm" trace -o "$trace" --size 64K "${limits[@]}" --summary -- \
		"$victims/victim_memory" sweep
	[ "$(stat -c %s "$trace")" -le 65536 ] || fail "$(stat -c %s "$trace") bytes"
	examine <<-'END'
	for kind, t in totals.items():
	    assert t["seen"] == t["written"] + t["dropped"], (kind, t)
	assert sum(t["dropped"] for t in totals.values()) >= 100, totals
	assert totals["fault"]["seen"] == summary("touches of pages on devices"), totals
	assert abs(totals["evict"]["pages"] / 256 - summary("moved to devices")) <= 0.1, totals
	END
}

# What cannot be written is said before the program begins.
says_at_once_that_it_cannot_write() {
	local ran=$scratch/ran file

	need_userfaultfd
	for file in /dev/full "$scratch/none/trace" "$scratch"; do
		expect 1 "$umm" trace -o "$file" "${limits[@]}" -- touch "$ran"
		[ "$(wc -l <"$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
		[ ! -e "$ran" ] || fail "it ran the program"
	done
	expect 1 "$umm" trace -o /dev/full "${limits[@]}" -- true
	says err 'umm trace: /dev/full: No space left on device'
	expect 1 "$umm" trace -o "$scratch/none/trace" "${limits[@]}" -- true
	says err 'none/trace: No such file or directory'
	mkfifo "$scratch/pipe"
	expect 1 timeout 60 "$umm" trace -o "$scratch/pipe" "${limits[@]}" -- touch "$ran"
	says err 'pipe: it is a pipe or a terminal, and a trace is written in place'
	expect 1 bash -o pipefail -c '"$@" | cat' - \
		"$umm" trace -o /dev/stdout "${limits[@]}" -- touch "$ran"
	[ ! -e "$ran" ] || fail "it ran the program"
	# What libumm itself records, likewise.
	expect 1 "$umm" trace -o "$trace" "${limits[@]}" --trace "$scratch/none/x" -- touch "$ran"
	says err 'umm run: trace: '
	says err 'none/x: No such file or directory'
	expect 1 "$umm" run "${limits[@]}" --trace /dev/null touch "$ran"
	says err 'umm run: trace: /dev/null: File exists'
	[ ! -e "$ran" ] || fail "it ran the program"
	expect 0 "$umm" run "${limits[@]}" --trace "$scratch/recorded" "$victims/victim_memory" sweep
	[ -s "$scratch/recorded" ] || fail "nothing is recorded"
}

# What finds room is there, as far as the last page of it, and what does not is counted.
full_disk() {
	need_python
	need_userfaultfd
	for kib in 64 128; do
		small_disk ${kib}k
		trace=$scratch/disk/trace.json
		expect 1 "$umm" trace -o "$trace" "${limits[@]}" --summary -- \
			"$victims/victim_memory" sweep
		says err 'No space left on device; what was written before is whole'
		[ "$(grep -c 'umm trace: writing' "$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
		says out 'all as it should be'
		[ "$(stat -c %s "$trace")" -gt $(((kib - 8) << 10)) ] ||
			fail "$(stat -c %s "$trace") bytes of ${kib}k"
		examine <<-'END'
		for kind, t in totals.items():
		    assert t["seen"] == t["written"] + t["dropped"], (kind, t)
		assert sum(t["dropped"] for t in totals.values()) >= 100, totals
		assert totals["fault"]["seen"] == summary("touches of pages on devices"), totals
		assert number["grant"] + number["evict"] + number["fault"] >= 10, number
		END
		umount "$scratch/disk"
	done
	small_disk 64k
	dd if=/dev/zero of="$scratch/disk/full" bs=4096 2>/dev/null || true
	expect 1 "$umm" trace -o "$scratch/disk/trace.json" "${limits[@]}" -- true
	says err 'No space left on device'
	[ "$(ls "$scratch/disk")" = full ] || fail "$(ls "$scratch/disk")"
}

# No room to begin a trace in: the file is what it was, its length too. What is there is used.
keeps_the_one_before() {
	local len

	need_python
	need_userfaultfd
	for len in 1 1500 2100 70000; do
		head -c "$len" /dev/zero | tr '\0' x >"$trace"
		cp "$trace" "$scratch/wanted"
		expect 1 bash -c 'ulimit -f 2; exec "$@"' - \
			"$umm" trace -o "$trace" "${limits[@]}" -- touch "$scratch/ran"
		says err 'trace.json: File too large'
		cmp "$trace" "$scratch/wanted" || fail "of $len bytes it has something else"
		[ ! -e "$scratch/ran" ] || fail "it ran the program"
		expect 0 "$umm" trace -o "$trace" "${limits[@]}" -- true
		examine <<<'assert len(events) == 1, events'
	done
	small_disk 64k
	trace=$scratch/disk/trace.json
	head -c 65536 /dev/zero | tr '\0' x >"$trace"
	expect 0 "$umm" trace -o "$trace" "${limits[@]}" -- true
	examine <<<'assert len(events) == 1, events'
}

# What a file system tells late is told, and no success.
close_fails() {
	need_userfaultfd
	start_program scans
	expect 1 env ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD="$victims/late_error.so" \
		"$umm" trace --seconds 1 -o "$scratch/late.json" "$program"
	says err 'late.json: Disk quota exceeded; what was written may not be whole'
	expect 1 env ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD="$victims/late_error.so" \
		"$umm" trace -o "$scratch/late.json" "${limits[@]}" -- env -u LD_PRELOAD true
	says err 'late.json: Disk quota exceeded; what was written may not be whole'
}

# Of a program that runs already, too, what finds no room is counted until an interrupt.
full_disk_of_one_that_runs() {
	need_python
	need_userfaultfd
	start_program scans
	small_disk 64k
	trace=$scratch/disk/trace.json
	: >"$scratch/err"
	"$umm" trace -o "$trace" "$program" 2>"$scratch/err" &
	tracer=$!
	for _ in {1..600}; do
		! grep -q 'what follows is only counted' "$scratch/err" || break
		sleep 0.1
	done
	cp "$trace" "$scratch/when_full"
	for _ in {1..600}; do
		! cmp -s "$trace" "$scratch/when_full" || { sleep 0.1 && continue; }
		kill -INT "$tracer" || fail "it has ended: $(cat "$scratch/err")"
		break
	done
	! wait "$tracer" || fail "it exited with 0: $(cat "$scratch/err")"
	[ "$(grep -c 'umm trace: writing' "$scratch/err")" = 1 ] || fail "$(cat "$scratch/err")"
	examine <<-'END'
	def dropped(when):
	    return sum(t["dropped"] for t in when.values())
	before = json.load(open(sys.argv[1].replace("disk/trace.json", "when_full")))[-1]["args"]
	assert dropped(totals) > dropped(before), (before, totals)
	for kind, t in totals.items():
	    assert t["seen"] == t["written"] + t["dropped"], (kind, t)
	END
}

# A limit on the size of files is this command's, which says so; the program has its signal.
file_size_limit() {
	local limited=(bash -c 'ulimit -S -f 200; exec "$@"' -) ignored
	local unlimited=(bash -c 'ulimit -S -f unlimited; exec "$@"' -)

	need_python
	need_userfaultfd
	[ "$(ulimit -H -f)" = unlimited ] || skip "the size of files is limited"
	expect 1 "${limited[@]}" "$umm" trace -o "$trace" "${limits[@]}" --summary -- \
		"${unlimited[@]}" "$victims/victim_memory" sweep
	says err 'File too large; what was written before is whole'
	says out 'all as it should be'
	examine <<-'END'
	for kind, t in totals.items():
	    assert t["seen"] == t["written"] + t["dropped"], (kind, t)
	assert sum(t["dropped"] for t in totals.values()) >= 10, totals
	assert totals["fault"]["seen"] == summary("touches of pages on devices"), totals
	END
	expect 1 bash -c 'ulimit -f 1; exec "$@"' - "$umm" trace -o "$scratch/none" "${limits[@]}" -- \
		touch "$scratch/ran"
	says err 'none: File too large'
	[ ! -e "$scratch/ran" ] || fail "it ran the program"
	for ignored in '' "trap '' XFSZ;"; do
		expect 0 bash -c "$ignored"'exec "$@"' - grep SigIgn /proc/self/status
		cp "$scratch/out" "$scratch/wanted"
		expect 0 bash -c "$ignored"'exec "$@"' - "$umm" trace -o "$trace" "${limits[@]}" -- \
			grep SigIgn /proc/self/status
		cmp "$scratch/out" "$scratch/wanted" || fail "$(cat "$scratch/out")"
	done
}

# The program's own end, arguments and status; what is not managed at all has an empty trace.
passes_on() {
	need_python
	expect 7 "$umm" trace -o "$trace" "${limits[@]}" -- sh -c 'exit 7'
	says err 'no events'
	examine <<<'assert not number, number'
	expect 0 "$umm" trace -o "$trace" "${limits[@]}" -- printf '%s|' a 'b c' --size
	[ "$(cat "$scratch/out")" = 'a|b c|--size|' ] || fail "$(cat "$scratch/out")"
	expect 127 "$umm" trace -o "$trace" "${limits[@]}" -- "$scratch/missing"
}

# A program that could keep nothing has no events to read; that it stayed under its limit is not said.
has_nowhere_to_keep_it() {
	need_python
	need_userfaultfd
	expect 0 "$umm" trace -o "$trace" "${limits[@]}" -- bash -c 'ulimit -f 1; exec "$@"' - \
		"$victims/victim_memory" sweep
	says out 'all as it should be'
	says err 'umm: /dev/shm: '
	says err 'or could keep nothing in /dev/shm'
	examine <<<'assert not number, number'
}

"$case_name"
