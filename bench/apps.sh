#!/bin/sh
# SPDX-License-Identifier: MIT
# Programs that nobody here wrote, and something for each to work on: what case_apps.c measures.
# "have" fails where a program is not installed; "make" prepares the directory it is in, once; "run"
# becomes the program.
# usage: apps.sh have|make|run CASE SCALE
set -eu

verb=$1 name=$2 n=$3

have() { # CASE
	case $1 in
	sqlite) command -v sqlite3 ;;
	redis) command -v redis-server && command -v redis-benchmark && command -v redis-cli ;;
	numpy) /usr/bin/python3 -c 'import numpy' ;;
	stress) command -v stress-ng ;;
	*) command -v "$1" ;;
	esac
}

lines() { # THOUSANDS: of digits, 20 bytes each, in an order of their own
	awk -v n="$1" 'BEGIN { x = 1; for (i = 0; i < n * 1000; i++) {
		x = (x * 1103515245 + 12345) % 2147483648; printf "%010d %08d\n", x, i } }'
}

make_sort() {
	lines $((n * 50)) >in
}

run_sort() {
	exec sort --parallel=2 -S 400M in
}

make_xz() {
	lines $((n * 8)) >in
}

run_xz() {
	exec xz -9 -T1 -c in
}

make_sqlite() {
	cat >in <<-END
	PRAGMA temp_store=MEMORY; PRAGMA cache_size=-4000000;
	CREATE TABLE a(id INTEGER PRIMARY KEY, k INTEGER, t TEXT);
	WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < $((n * 20000)))
		INSERT INTO a SELECT x, (x * 7919) % 100003, hex(x * 104729) FROM i;
	CREATE INDEX a_k ON a(k, t);
	SELECT count(*), max(x.t) FROM a x JOIN a y ON x.k = y.id;
	END
}

run_sqlite() {
	exec sqlite3 :memory: <in
}

make_redis() {
	: # its benchmark brings its own
}

run_redis() {
	redis-server --port 0 --unixsocket "$PWD/sock" --save '' &
	until [ -S sock ]; do
		sleep 0.01
	done
	redis-benchmark -s sock -n $((n * 5000)) -r 1000000 -d 100 -t set,get,lpush -q
	redis-cli -s sock shutdown nosave
	wait
}

make_numpy() {
	cat >in.py <<-END
	import numpy as np
	a = np.arange($((n * 250000)), dtype=np.float64)
	for i in range(3):
	    a = np.cumsum(np.sort(np.sin(a + i)))
	END
}

run_numpy() {
	OPENBLAS_NUM_THREADS=1 exec /usr/bin/python3 in.py
}

make_gcc() {
	awk -v n=$((n * 40)) 'BEGIN { for (i = 0; i < n; i++)
		printf "int f%d(int *a, int n) { int s = %d; for (int i = 0; i < n; i++)" \
			" s += a[i] * (s ^ %d); return s; }\n", i, i, i * 7 }' >in.c
}

run_gcc() {
	exec gcc -O2 -c in.c -o out.o
}

make_stress() {
	: # it makes its own
}

run_stress() {
	exec stress-ng --vm 1 --vm-bytes 64M --vm-ops $((n * 4000)) --vm-method incdec --verify
}

make_node() {
	cat >in.js <<-END
	const map = new Map();
	let sum = 0;
	for (let i = 0; i < $((n * 50000)); i++)
		map.set('k' + i * 7919, [i, { i }]);
	for (const [key, value] of map)
		sum += key.length + value[1].i;
	console.log(sum);
	END
}

run_node() {
	exec node in.js
}

# Files that are like each other.
make_git() {
	git init -q --bare repo
	awk -v n=$((n * 500)) 'BEGIN {
		for (i = 1; i <= n; i++) {
			text = ""
			for (k = 0; k < 100; k++)
				text = text sprintf("line %d of %d\n", k * k + i % 97, i % 31)
			printf "blob\nmark :%d\ndata %d\n%s\n", i, length(text), text
		}
		print "commit refs/heads/main\ncommitter a <a@b> 0 +0000\ndata 1\nx"
		for (i = 1; i <= n; i++)
			printf "M 100644 :%d d%d/f%d\n", i, i % 50, i
	}' | git -C repo fast-import --quiet
}

run_git() {
	exec git -C repo -c pack.threads=1 -c pack.window=20 repack -adfq
}

if [ "$verb" = have ]; then
	have "$name"
else
	"${verb}_$name"
fi
