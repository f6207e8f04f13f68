# SPDX-License-Identifier: MIT
# Judges what a program and Oclgrind wrote to stderr: passes on the program's lines, and the first
# of each of Oclgrind's messages; exits 1 if there are any but those of one race that is meant to
# be: work-items mark the leaves of the page table that they use, all with the same number, and
# look first whether that is done, without atomics.
# usage: awk -f oclgrind.awk FILE

function judge(    kind)
{
	if (!kernel)
		return
	kind = headline
	sub(/ at .*address .*/, "", kind)
	kind = kind " in " kernel sources
	kernel = ""
	if (headline ~ /^Read-write data race/ && nsources == 2 && nmarks == 2) {
		nraces++
		return
	}
	bad = 1
	if (seen[kind]++)
		nmore++
	else
		printf "%s\n%s", headline, text
}

# A message: its headline, then lines that begin with a tab.
/^\tKernel: / {
	judge()
	kernel = $2
	headline = last
	text = sources = ""
	nsources = nmarks = source_next = 0
}

kernel && !/^\t/ && !/^$/ {
	judge()
}

kernel && /^\t/ {
	text = text $0 "\n"
	if (source_next) {
		nsources++
		nmarks += /used\[leaf\]/
		sources = sources $0
	}
	source_next = /^\tAt line /
}

# The line before is the program's own, unless it is a headline.
!/^\tKernel: / && last != "" && last !~ /^\t/ {
	print last
}

/^OCLGRIND/ {
	bad = 1
}

{
	last = $0
}

END {
	judge()
	if (last != "" && last !~ /^\t/)
		print last
	printf "Oclgrind: %d looks at marks, %d more messages like those above\n", nraces, nmore
	exit bad
}
