# SPDX-License-Identifier: MIT
# What the kernel's test harness prints, made honest: a test that was skipped while it was set up
# is reported as passed there, and so is the test of compound pages where there is no huge page. That
# of snapshots wants memory that was read to be the kernel's page of zeroes, which not all have. A
# line that comes again and again (a teardown that fails runs again until the test's time is up) is
# printed once. The last line has the totals.
# Every result names its test, those that were skipped, too: "ok 7 # SKIP name: reason".
# usage: ... | awk -f tap.awk -v huge=NUMBER_OF_FREE_HUGE_PAGES -v zero=IS_THERE_A_PAGE_OF_ZEROES
# Exit status: 0 if all tests that were announced ran, and none failed.

{
	if ($0 == before)
		next
	before = $0
}

/^1\.\.[0-9]+$/ {
	planned = substr($0, 4) + 0
}

/^# +RUN / {
	name = $3
	reason = $3 ~ /\.compound$/ && huge + 0 == 0 ? "no huge page is free" : ""
}

/^# +SKIP / {
	reason = $0
	sub(/^# +SKIP +/, "", reason)
}

/^not ok [0-9]+ / && name ~ /\.snapshot$/ && zero == "0" {
	sub(/^not /, "")
	reason = "it wants a page of zeroes, and this kernel gives memory that is read pages of its own"
}

/^not ok [0-9]+ / {
	failed++
}

/^ok [0-9]+ / {
	if (/ # SKIP / || reason) {
		skipped++
		$0 = $1 " " $2 " # SKIP " name ": " (reason ? reason : "no reason was given")
	} else {
		passed++
	}
}

/^# Totals: / {
	next
}

{
	print
	fflush()
}

END {
	if (passed + failed + skipped != planned)
		printf "# %d tests were announced, %d ran\n", planned, passed + failed + skipped
	printf "# Totals: %d passed, %d failed, %d skipped\n", passed, failed, skipped
	exit failed > 0 || passed == 0 || passed + failed + skipped != planned
}
