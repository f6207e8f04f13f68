#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What umm-sim prints and how it ends: traces that it wrote, and those that are none.
# usage: check.sh UMM_SIM
set -euo pipefail
sim=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0

complain() {
	printf '%s\n' "$*"
	bad=1
}

# refused STATUS WORDS ARG...: it ends with that status, and says these words
refused() {
	local status=$1 words=$2 got=0
	shift 2
	"$sim" "$@" >"$dir/out" 2>"$dir/err" || got=$?
	[ "$got" -eq "$status" ] || complain "umm-sim $*: status $got instead of $status"
	grep -qF -- "$words" "$dir/err" || complain "umm-sim $*: said '$(cat "$dir/err")', not '$words'"
}

"$sim" --help | grep -q '^usage: umm-sim' || complain "--help prints no usage"
"$sim" --memory 20 --blocks 40 --write "$dir/trace" zipf >"$dir/first"
"$sim" --memory 20 "$dir/trace" >"$dir/second"
diff "$dir/first" "$dir/second" || complain "a trace that was written gives other figures"
[ "$(grep -c . "$dir/first")" -eq 9 ] || complain "not a line for each order: $(cat "$dir/first")"

# A recorded file: what it looks like is test_trace's affair.
printf 'umm-rec\0' >"$dir/stub"
refused 1 "not even its head" "$dir/stub"
printf 'umm-rec\0\7\0\0\0\10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' >"$dir/later"
refused 1 "version 7" "$dir/later"
refused 1 "version 7" figures "$dir/later"
printf 'umm-rec\0\2\0\0\0\10\0\0\0\2\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0\2\0\0\0\0\0\20\0\0\0\0\0\0\0\40' >"$dir/idle"
refused 1 "nothing in it misses" figures "$dir/idle"
"$sim" figures "$dir/trace" >"$dir/more"
[ "$(grep -c '^zipf ' "$dir/more")" -eq 6 ] || complain "a trace has no figures of its own"

head -n 5 "$dir/trace" >"$dir/cut"
refused 1 "cut off" "$dir/cut"
sed '1s/1/2/' "$dir/trace" >"$dir/other"
refused 1 "version 2" "$dir/other"
sed '1s/1/4294967297/' "$dir/trace" >"$dir/wraps"
refused 1 "version 4294967297" "$dir/wraps"
sed '1s/1/-1/' "$dir/trace" >"$dir/negative"
refused 1 "not a trace" "$dir/negative"
sed '4s/.*/x7/' "$dir/trace" >"$dir/corrupt"
refused 1 "line 4" "$dir/corrupt"
sed '4d' "$dir/trace" >"$dir/short"
refused 1 "so many uses" "$dir/short"
echo 7 | cat "$dir/trace" - >"$dir/longer"
refused 1 "after the last line" "$dir/longer"
cat "$dir/trace" "$dir/trace" >"$dir/twice"
refused 1 "after the last line" "$dir/twice"
printf 'umm-blocks 1 far\n268435455\n2\n268435455\nend 3\n' >"$dir/far"
"$sim" --write "$dir/copy" "$dir/far" | grep -q '^far: 3 uses of 2 blocks, a memory of 1;' ||
	complain "blocks that are not used take room"
cmp -s "$dir/far" "$dir/copy" || complain "blocks have other numbers when they are written"
: >"$dir/empty"
refused 1 "empty" "$dir/empty"
head -c 4096 /dev/zero >"$dir/zero"
refused 1 "not a trace" "$dir/zero"
refused 1 "cannot open" "$dir/absent"
refused 2 "no such order" --order oldest zipf
refused 2 "no such device" --device abacus zipf
refused 2 "not a number" --memory 0 zipf
refused 2 "is wanted"
refused 2 "not 'loop'" zipf loop

# Each option with each thing to do: either it changes what is done, or it is refused.
declare -A value=([memory]=20 [blocks]=40 [order]=lru [device]=cxl [write]=$dir/written [svg]=$dir/one.svg)
ignored() {
	local options=$1 option
	shift
	for option in $options; do
		refused 2 "--$option does nothing" "--$option" "${value[$option]}" "$@"
		refused 2 "--$option does nothing" "$@" "-${option:0:1}" "${value[$option]}"
	done
}
ignored "memory blocks order device write" figures
ignored "memory blocks order device write" figures "$dir/trace"
ignored "memory blocks order device write" ahead
ignored "memory blocks order device write svg" ahead "$dir/trace"
ignored "memory blocks order write" thrash
ignored "memory blocks device write svg" predict "$dir/page"
ignored "svg" zipf
ignored "blocks svg" "$dir/trace"
refused 2 "--blocks does nothing with 'thrash'" -d cxl -b 7 -o lru thrash
[ ! -e "$dir/one.svg" ] && [ ! -e "$dir/written" ] || complain "what was refused left a file"

# changes DEFAULT ARG...: with these options something else is printed
changes() {
	local default=$1
	shift
	"$sim" "$@" >"$dir/with"
	! cmp -s "$default" "$dir/with" || complain "umm-sim $*: the option changes nothing"
}
"$sim" zipf >"$dir/plain"
for option in memory blocks order device; do
	changes "$dir/plain" "--$option" "${value[$option]}" zipf
done
"$sim" "$dir/trace" >"$dir/plain"
changes "$dir/plain" --memory 10 "$dir/trace"
changes "$dir/plain" --order lru "$dir/trace"
changes "$dir/plain" --device cxl "$dir/trace"
"$sim" --write "$dir/copy" "$dir/trace" >/dev/null
cmp -s "$dir/trace" "$dir/copy" || complain "a trace is written other than it was read"
"$sim" thrash >"$dir/plain"
changes "$dir/plain" --device cxl thrash

# Patterns are as large as they are told to be, in half of that; a loop alone is made to measure.
for pattern in sequential strided random zipf loop scan phase; do
	"$sim" --help | grep -q "^Patterns: .*\b$pattern\b" || complain "--help does not name $pattern"
	"$sim" --blocks 300 "$pattern" >"$dir/out"
	grep -q ' of 300 blocks, a memory of 150;' "$dir/out" || complain "$pattern: $(head -n 1 "$dir/out")"
done
"$sim" --memory 100 loop | grep -q ' of 111 blocks, a memory of 100;' || complain "loop has another measure"
"$sim" loop | grep -q ' of 141 blocks, a memory of 128;' || complain "loop has no measure"
# A memory of 512 frames, room for a page, an arrival, a page.
printf 'umm-rec\0\2\0\0\0\10\0\0\0\4\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0' >"$dir/page"
printf '\0\2\0\0\0\0\0\20\0\0\0\0\20\0\0\260\0\0\0\0\0\0\0\40\0\0\0\0\20\0\0\160' >>"$dir/page"
"$sim" "$dir/page" | grep -q ': 1 uses of 1 blocks, a memory of 512 pages' || complain "one page is not one"
"$sim" --memory 8388608 --order lru "$dir/page" | grep -q 'a memory of 4294967296 pages' || complain "16 TiB are not 16 TiB"
"$sim" --memory 67108864 --order adaptive "$dir/page" | grep -q ' 34359738368 pages' || complain "128 TiB are not 128 TiB"
"$sim" --memory 67108864 --order lru zipf | grep -q 'a memory of 67108864;' || complain "128 TiB are not 128 TiB"
refused 2 "not a number of blocks" --memory 67108865 zipf

# And a use of the whole block, which says nothing of other memories, so that there is no bound; or of a page.
used() {
	printf 'umm-rec\0\2\0\0\0\10\0\0\0\5\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0'
	tail -c +33 "$dir/page"
	printf '\0\0\0\0'"$1"
}
used '\0\40\0\60' >"$dir/whole"
used '\20\0\0\60' >"$dir/part"
"$sim" "$dir/whole" >"$dir/out"
grep -q 'x recorded$' "$dir/out" && grep -q 'is not known' "$dir/out" && ! grep -q bound "$dir/out" ||
	complain "multiples of what is not known: $(cat "$dir/out")"
"$sim" "$dir/part" >"$dir/out"
grep -q 'x bound$' "$dir/out" && grep -q '^bound  *1 ' "$dir/out" || complain "no bound: $(cat "$dir/out")"
refused 1 "tells of whole blocks" figures "$dir/whole"
refused 1 "too small to compare" figures "$dir/part"
"$sim" predict "$dir/whole" "$dir/part" >"$dir/out" || complain "what is used is not predicted: $(cat "$dir/out")"

# A terminal obeys no name.
printf 'umm-blocks 1 \033[31mred\n0\n1\nend 2\n' >"$dir/red"
cp "$dir/page" "$dir/"$'\033[31mpage'
for name in "$dir/red" "$dir/"$'\033[31mpage'; do
	"$sim" "$name" | head -n 1 >"$dir/out"
	grep -q '^?\[31m' "$dir/out" || complain "a name is not mended: $(cat -v "$dir/out")"
done

# The manual has the names that the program knows.
for name in $("$sim" --help | sed -n 's/^\(Patterns\|Orders\|Devices\): //p' | tr -d ,); do
	grep -qE "^\.Cm .*\b$name\b" "$(dirname "$0")/../../docs/man/umm-sim.1" || complain "$name is not in the manual"
done

# A pipe is a file as well; uses of the same block one after the other are one; a full disk is no success.
"$sim" --memory 20 <(cat "$dir/trace") >"$dir/out"
diff "$dir/first" "$dir/out" || complain "a trace from a pipe gives other figures"
printf 'umm-blocks 1 again\n0\n0\n1\nend 3\n' >"$dir/again"
"$sim" --memory 1 "$dir/again" | grep -q '^again: 2 uses of 2 blocks' || complain "a use twice is not one"
printf 'umm-blocks 1 again\n0\n0\n1\nend 2\n' >"$dir/again"
refused 1 "so many uses" "$dir/again"
"$sim" predict "$dir/page" "$dir/page" | grep -qE '^page +512 +1 +1 +0.0 +1 +1 +0.0 +0.0 %$' || complain "one page is not predicted"
"$sim" --order lru predict "$dir/page" | grep -q 'replay through lru' || complain "predict: the order does nothing"
refused 1 "did not record" predict "$dir/trace"
refused 2 "files are wanted" predict
head -c 16 "$dir/page" >"$dir/lost" && printf '\3\0\0\0\0\0\0\0\4' >>"$dir/lost" && tail -c +26 "$dir/page" >>"$dir/lost"
refused 1 "found no room" predict "$dir/lost"
for arguments in --help zipf figures ahead thrash; do
	! "$sim" "$arguments" >/dev/full 2>"$dir/err" || complain "umm-sim $arguments: a full disk is a success"
	grep -q 'writing the output failed' "$dir/err" || complain "umm-sim $arguments: said '$(cat "$dir/err")'"
done

# What would only water down the mean: a trace so small that a quarter of it holds nothing.
printf 'umm-blocks 1 two\n0\n1\n0\n1\nend 4\n' >"$dir/two"
refused 1 "too small to compare" figures "$dir/two"
printf 'umm-blocks 1 a&b<c>"\n' >"$dir/named"
tail -n +2 "$dir/trace" >>"$dir/named"
"$sim" --svg "$dir/named.svg" figures "$dir/named" | grep -q 'over 7 patterns and 1 traces' || complain "no word on what is compared"

"$sim" --svg "$dir/figures.svg" figures | grep -q '^adaptive .*geometric mean' ||
	complain "no figures"
"$sim" figures "$dir/trace" | grep -qE '^the default is adaptive: .*: (met|missed)$' ||
	complain "no verdict on the default"
refused 1 "no CPU missed" ahead "$dir/trace"
"$sim" --svg "$dir/ahead.svg" ahead | grep -q '^stream  *strided' || complain "nothing about prefetch"
"$sim" --svg "$dir/thrash.svg" --device cxl thrash | grep -q ' yes  *pin ' || complain "nothing about thrashing"
if command -v xmllint >/dev/null; then
	xmllint --noout "$dir/figures.svg" "$dir/ahead.svg" "$dir/thrash.svg" "$dir/named.svg" || complain "the picture is no XML"
fi
exit "$bad"
