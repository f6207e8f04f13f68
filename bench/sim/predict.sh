#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Records the OpenCL examples, and WordNet in three memories, and compares with replays.
# usage: predict.sh UMM_SIM DIRECTORY_OF_EXAMPLES
set -euo pipefail
sim=$1 examples=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# record NAME PROGRAM ARG...: where a program cannot run, nor can the test
record() {
	local name=$1 status=0
	shift
	UMM_TRACE=$dir/$name "$@" >"$dir/log" 2>&1 || status=$?
	[ "$status" -eq 0 ] || cat "$dir/log"
	[ "$status" -eq 0 ] || exit "$status"
}

for name in join pagerank stencil; do
	record "$name" "$examples/$name"
done
for share in 25 50 75; do
	record "wordnet-$share%" "$examples/wordnet-paths" --quick --limit "$share%" --picture none
done
"$sim" predict "$dir"/join "$dir"/pagerank "$dir"/stencil "$dir"/wordnet-*

# What was recorded through one order is not what all others do.
for order in lru clock s3fifo lirs lrfu; do
	"$sim" --order "$order" predict "$dir/wordnet-25%" "$dir/stencil" >/dev/null || exit 0
done
echo "whatever the order, nothing is off"
exit 1
