#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs a test program under Oclgrind, and fails where the program does, or where Oclgrind has
# seen a kernel access memory that is not its own, or race.
# usage: oclgrind.sh PROGRAM [PATTERN]
set -euo pipefail

if ! command -v oclgrind >/dev/null; then
	echo "SKIP Oclgrind is not installed (Debian: apt-get install oclgrind)"
	exit 77
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Without a limit, or the first thousand messages would hide the others. Not to a file of its own:
# every context would begin it anew.
status=0
UMM_TEST_OPENCL=Oclgrind oclgrind --data-races --max-errors 1000000000 "$@" 2>"$log" || status=$?
awk -f "$(dirname "$0")/oclgrind.awk" "$log" || status=1
exit "$status"
