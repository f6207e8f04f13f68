#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Programs that nobody here wrote, under the shim, with a host limit of a quarter of what they work
# on: the results are those of a run without it, bit by bit, and memory did leave the host. 77 is a
# skip and says why.
# usage: apps.sh CASE SCALE UMM TIERS     SCALE: 1 takes seconds, 4 and more takes minutes
set -euo pipefail

case_name=$1 scale=$2 umm=$3
export UMM_TIER_PATH=$4 XDG_CONFIG_HOME=/nonexistent LC_ALL=C
scratch=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$scratch"' EXIT
cd "$scratch"

fail() {
	printf 'FAILED: %s\n' "$*" >&2
	exit 1
}

skip() {
	printf 'SKIPPED: %s\n' "$*"
	exit 77
}

need() { # PROGRAM PACKAGE
	command -v "$1" >/dev/null || skip "there is no $1 (Debian: apt-get install $2)"
}

# shim MIB [OPTION...] -- COMMAND...: with a limit of so many MiB; the summary goes to summary
shim() {
	local limit=$1

	shift
	"$umm" run --device ref=8G --host-limit "${limit}M" --summary "$@" 2>summary ||
		fail "it exited with $?: $(tail -n 20 summary)"
}

number() { # WHAT: the number behind it in the summary
	awk -v what="$1" 'index($0, "  " what " ") == 1 { n = $(NF - ($NF == "MiB")) }
		END { print n + 0 }' summary
}

# So many MiB left the host at least, and what was in it kept to the limit and its slack.
left_the_host() { # MIB LIMIT
	awk -v n="$(number 'moved to devices')" -v least="$1" 'BEGIN { exit !(n >= least) }' ||
		fail "little left the host: $(cat summary)"
	awk -v n="$(number 'in host frames at most')" -v limit="$2" \
		'BEGIN { exit !(n <= limit * 1.0625 + 16) }' || fail "over the limit: $(cat summary)"
	[ "$(number 'pages lost with their device')" = 0 ] || fail "$(cat summary)"
	grep -E 'moved|at most|touches' summary
}

same() {
	cmp "$1" "$2" || fail "$case_name: the result differs"
}

# Lines of digits, 20 bytes each, in an order of their own.
lines() { # MILLIONS
	awk -v n="$1" 'BEGIN { x = 1; for (i = 0; i < n * 1000000; i++) {
		x = (x * 1103515245 + 12345) % 2147483648; printf "%010d %08d\n", x, i } }'
}

sort_case() {
	lines "$scale" >in
	sort in >plain
	shim $((scale * 20)) sort --parallel=2 -S $((scale * 80))M in >ours
	same plain ours
	left_the_host $((scale * 20)) $((scale * 20))
}

# Its match finder looks up a hash table of 64 MiB and a tree of eight bytes for each of the input at
# random: of these a quarter, and of every four accesses three wait for a page. So four million bytes
# take minutes, whatever the scale.
xz_case() {
	local limit=25

	need xz xz-utils
	lines 1 >in
	truncate -s 4000000 in
	xz -9 -T1 -c in >plain
	shim "$limit" xz -9 -T1 -c in >ours
	same plain ours
	left_the_host 10 "$limit"
}

sqlite_script() {
	cat <<-END
	PRAGMA temp_store=MEMORY; PRAGMA cache_size=-4000000;
	CREATE TABLE a(id INTEGER PRIMARY KEY, k INTEGER, t TEXT);
	CREATE TABLE b(k INTEGER, v INTEGER);
	WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < $((scale * 200000)))
		INSERT INTO a SELECT i, (i * 7919) % 100003, hex(i * 104729) || 'padding' || i FROM n;
	INSERT INTO b SELECT (id * 31) % 100003, id FROM a;
	CREATE INDEX b_k ON b(k); CREATE INDEX a_k ON a(k, t);
	SELECT count(*), sum(a.id), sum(b.v), max(t) FROM a JOIN b ON a.k = b.k WHERE a.id % 17 = 3;
	SELECT t FROM a ORDER BY t DESC LIMIT 20;
	END
}

# Its pages are small allocations: all of malloc() is managed.
sqlite_case() {
	need sqlite3 sqlite3
	sqlite_script >in
	sqlite3 :memory: <in >plain
	shim $((scale * 16)) --malloc-threshold 0 sqlite3 :memory: <in >ours
	same plain ours
	left_the_host $((scale * 10)) $((scale * 16))
}

numpy_program() {
	cat <<-END
	import hashlib, os, sys
	import numpy as np
	n = $scale * 4000000
	a = np.arange(n, dtype=np.float64)
	b = np.sqrt(a) * 3.5 + np.sin(a)
	order = np.argsort(b[::-1] % 1.0, kind="stable")
	c = np.cumsum(b[order])
	print(hashlib.sha256(c.tobytes()).hexdigest())
	r, w = os.pipe()
	pid = os.fork()
	if pid == 0:
	    d = np.sort(c * -1.0)
	    os.write(w, hashlib.sha256(d.tobytes()).hexdigest().encode())
	    os._exit(0)
	os.waitpid(pid, 0)
	print(os.read(r, 100).decode())
	a += c
	print(hashlib.sha256(a.tobytes()).hexdigest())
	END
}

numpy_case() {
	local python=/usr/bin/python3

	"$python" -c 'import numpy' 2>/dev/null ||
		skip "there is no NumPy (Debian: apt-get install python3-numpy)"
	export OPENBLAS_NUM_THREADS=1 # its threads are not what is tested
	numpy_program >program.py
	"$python" program.py >plain
	# fork() brings everything home for a moment: the limit cannot be looked at.
	shim $((scale * 40)) "$python" program.py >ours
	same plain ours
	left_the_host $((scale * 40)) 100000
}

redis_up() { # the server answers
	for _ in {1..300}; do
		! redis-cli -s sock ping 2>/dev/null | grep -q PONG || return 0
		sleep 0.1
	done
	fail "the server does not answer: $(cat server)"
}

redis_server() {
	redis-server --port 0 --unixsocket "$scratch/sock" --save '' --dbfilename dump.rdb \
		--dir "$scratch" --daemonize no --enable-debug-command yes >server 2>&1
}

redis_case() {
	local before after limit=$((scale * 24))

	need redis-server redis-server
	need redis-benchmark redis-tools
	"$umm" run --device ref=8G --host-limit "${limit}M" --malloc-threshold 0 --summary -- \
		redis-server --port 0 --unixsocket "$scratch/sock" --save '' --dbfilename dump.rdb \
		--dir "$scratch" --daemonize no --enable-debug-command yes >server 2>summary &
	server=$!
	redis_up
	redis-benchmark -s sock -t set -n $((scale * 60000)) -r $((scale * 60000)) -d 1000 -P 16 -q \
		>benchmark
	redis-cli -s sock bgsave >/dev/null
	# Writes go on while the child saves.
	redis-benchmark -s sock -t set,lpush -n $((scale * 10000)) -r $((scale * 60000)) -d 1000 -P 16 \
		-q >>benchmark
	for _ in {1..600}; do
		! redis-cli -s sock info persistence | grep -q 'rdb_bgsave_in_progress:0' || break
		sleep 0.1
	done
	redis-cli -s sock info persistence | grep -q 'rdb_last_bgsave_status:ok' ||
		fail "BGSAVE failed: $(cat server)"
	before=$(redis-cli -s sock debug digest)
	redis-cli -s sock save >/dev/null
	redis-cli -s sock shutdown nosave || true
	wait "$server" || fail "the server exited with $?: $(cat server summary)"
	server=
	left_the_host "$limit" 100000
	# A server without the shim reads the same from the dump.
	redis_server &
	server=$!
	redis_up
	after=$(redis-cli -s sock debug digest)
	redis-cli -s sock shutdown nosave || true
	wait "$server" || true
	server=
	[ "${#before}" -ge 40 ] || fail "no digest: $before"
	[ "$before" = "$after" ] || fail "digests: $before, $after"
}

# One unit with many functions.
gcc_source() {
	awk -v n=$((scale * 1500)) 'BEGIN {
		for (i = 0; i < n; i++)
			printf "int f%d(int *p, int n)\n{\n\tint s = %d;\n\tfor (int i = 0; i < n; i++)\n" \
				"\t\ts += p[i] * %d + (s >> %d);\n\treturn s;\n}\n", i, i, i % 97, i % 7
	}'
}

gcc_case() {
	local compiler

	need gcc gcc
	compiler=$(gcc -print-prog-name=cc1)
	gcc_source >unit.c
	"$compiler" -quiet -O2 unit.c -o plain
	shim $((scale * 16)) --malloc-threshold 0 -- "$compiler" -quiet -O2 unit.c -o ours
	same plain ours
	left_the_host 8 $((scale * 16))
}

git_case() {
	need git git
	export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
	lines 1 >lines
	git init -q repository
	cd repository
	git config user.name nobody
	git config user.email nobody@example.org
	for i in $(seq $((scale * 6))); do
		dd if=../lines of="file$i" bs=1000 skip="$i" count=2900 status=none
		git add "file$i"
		git commit -q -m "$i"
	done
	cd ..
	cp -r repository plain
	git -C plain gc -q --aggressive
	shim 24 --malloc-threshold 0 git -C repository -c pack.threads=1 pack-objects --all \
		--window=50 --depth=50 -q "$scratch/pack" </dev/null >ours
	git -C repository -c pack.threads=1 pack-objects --all --window=50 --depth=50 -q \
		"$scratch/other" </dev/null >named
	same named ours
	same "pack-$(cat ours).pack" "other-$(cat named).pack"
	left_the_host 10 24
	"$umm" run --device ref=8G --host-limit 24M git -C repository gc -q --aggressive
	git -C repository fsck --full >/dev/null 2>&1 || fail "fsck"
	[ "$(git -C repository rev-parse HEAD)" = "$(git -C plain rev-parse HEAD)" ] || fail "HEAD"
}

node_case() {
	need node nodejs
	cat >program.js <<-END
	const crypto = require('crypto');
	const objects = [];
	for (let i = 0; i < $scale * 100000; i++)
		objects.push({ id: i, name: 'object ' + (i * 7919 % 1000003), next: [i, i + 1, i + 2] });
	objects.sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : a.id - b.id);
	const hash = crypto.createHash('sha256');
	for (const o of objects) hash.update(o.name + o.next[2]);
	const big = Buffer.alloc($scale * 48 << 20);
	for (let i = 0; i < big.length; i += 1024) big.writeUInt32LE(i * 31 >>> 0, i);
	hash.update(big);
	console.log(hash.digest('hex'));
	END
	node program.js >plain
	shim $((scale * 24)) --mmap-threshold 64K node program.js >ours
	same plain ours
	left_the_host $((scale * 20)) $((scale * 24))
}

# What a program whose name begins so has moved to devices so far, MiB.
moved_out() { # NAME
	"$umm" top --once | awk -v name="$1" '/ host / { ours = index($2, name) == 1 }
		ours && $1 == "out" && $2 > most { most = $2 } END { print int(most) }'
}

# It works in forked children, whose own summary nobody prints.
stress_case() {
	local most=0 now

	need stress-ng stress-ng
	shim $((scale * 32)) stress-ng --vm 1 --vm-bytes $((scale * 128))M --vm-method all --verify \
		--vm-ops $((scale * 4000)) --vm-keep --no-rand-seed --metrics-brief >ours &
	server=$!
	while kill -0 "$server" 2>/dev/null; do
		now=$(moved_out stress-ng)
		[ "$now" -le "$most" ] || most=$now
		sleep 0.1
	done
	wait "$server" || fail "$(cat ours summary)"
	server=
	grep -q 'successful run completed' ours summary || fail "$(cat ours summary)"
	[ "$most" -ge $((scale * 32)) ] || fail "little left the host: $most MiB"
	echo "  moved to devices by its child $most MiB at least"
}

"${case_name}_case"
