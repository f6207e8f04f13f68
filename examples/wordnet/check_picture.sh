#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The picture says what the counters say: an area that the device read is marked, and no other.
# usage: check_picture.sh WORDNET_PATHS
set -euo pipefail

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
svg=$scratch/picture.svg

fail() {
	printf 'FAILED: %s\n' "$*" >&2
	exit 1
}

# One remark for each area of which nothing was ever seen on the device.
remarks() {
	grep -c -- "$1" "$svg" || true
}

marked() { # CLASS: some strip is drawn in it
	grep -q "<path class=\"$1\"[^>]* d=\"M" "$svg"
}

status=0
"$1" --quick --picture "$svg" || status=$?
[ "$status" -eq 0 ] || exit "$status"

# The kernel follows links and synsets and answers questions; it never reads a word's letters.
marked both || fail "nothing was on both sides"
marked alone || fail "nothing was on the device alone"
[ "$(remarks 'the device was here, but never when this was drawn')" -eq 0 ] ||
	fail "an area that the device read is not marked"
[ "$(remarks 'the device never followed a pointer to here')" -eq 1 ] ||
	fail "not exactly one area, the text, was left alone"
