# SPDX-License-Identifier: MIT
# Sums up ctest runs: failures, skips with the reasons that the tests printed, one last line.
# For every preset it reads ctest's own log for the outcome of each test, then what the
# tests printed. The cases of a cmocka program count one by one, and so do the lines of one
# that speaks TAP ("ok 1 name", "not ok 2 name", "ok 3 # SKIP name: reason"); any other test
# counts as one.
# Of a test that was run again after a failure the last run counts, and it is named.
# usage: awk -f tally.awk [-v broken="PRESET:STEP..."] \
#            {preset=NAME kind=outcome CTEST_LOG kind=output LAST_TEST_LOG}...

function fail(what)
{
	nfailed[test]++
	failures[test] = failures[test] "  " what "\n"
}

function skip(what)
{
	nskipped[test]++
	skips[test] = skips[test] "  " what ": " (reason ? reason : "no reason was printed") "\n"
}

# One more test, or one more run of the same: then what failed before is only remembered.
function begin(name)
{
	test = preset " " name
	if (test in begun)
		before[test] = before[test] (failures[test] ? failures[test] : "  " test "\n")
	else
		order[++ntests] = test
	begun[test] = 1
	npassed[test] = nfailed[test] = nskipped[test] = 0
	failures[test] = skips[test] = ""
}

kind == "outcome" && /^ *([0-9]+\/[0-9]+ +)?Test +#[0-9]+: / {
	sub(/^ *([0-9]+\/[0-9]+ +)?Test +#[0-9]+: /, "")
	outcome[preset, $1] = /[. ] +Passed +[0-9.]+ sec/ ? "passed" : \
			      /\*\*\*Skipped|\*\*\*Not Run \(Disabled\)/ ? "skipped" : "failed"
}

kind != "output" {
	next
}

/^[0-9]+\/[0-9]+ Testing: / {
	name = $3
	begin(name)
	running = tap = cases = bad = 0
	current = reason = ""
}

/^(SKIP|SKIPPED|skipped):? / {
	reason = substr($0, index($0, " ") + 1)
}

/\[==========\] Running/ {
	running = 1
}

/\[==========\] .* run\.$/ {
	running = 0
}

running && /\[ RUN      \] / {
	cases++
	current = $NF
	reason = ""
}

running && /\[       OK \] / {
	npassed[test]++
	current = ""
}

running && /\[  FAILED  \] / {
	fail(preset " " name ": " $NF)
	bad++
	current = ""
}

running && /\[  SKIPPED \] / {
	skip(preset " " name ": " $NF)
	current = ""
}

/^TAP version / {
	tap = 1
}

tap && /^ok [0-9]+ / {
	cases++
	if ($3 == "#") {
		reason = $0
		sub(/^[^:]*: */, "", reason)
		sub(/:$/, "", $5)
		skip(preset " " name ": " $5)
	} else {
		npassed[test]++
	}
}

tap && /^not ok [0-9]+ / {
	cases++
	bad++
	fail(preset " " name ": " $4)
}

/^<end of output>$/ {
	result = outcome[preset, name]
	if (result == "failed" && current)
		fail(preset " " name ": died in " current)
	else if (result == "failed" && !bad)
		fail(preset " " name)
	else if (result == "skipped" && !cases)
		skip(preset " " name)
	else if (result == "passed" && !cases)
		npassed[test]++
}

END {
	for (i = 1; i <= ntests; i++) {
		passed += npassed[order[i]]
		failed += nfailed[order[i]]
		skipped += nskipped[order[i]]
		all_failures = all_failures failures[order[i]]
		all_skips = all_skips skips[order[i]]
		if (!nfailed[order[i]])
			again = again before[order[i]]
	}
	n = split(broken, steps)
	for (i = 1; i <= n; i++) {
		failed++
		sub(/:/, ": no result from ", steps[i])
		all_failures = all_failures "  " steps[i] "\n"
	}
	if (all_failures)
		printf "\nFailed:\n%s", all_failures
	if (again)
		printf "\nFailed, but not when run again (report these, too):\n%s", again
	if (all_skips)
		printf "\nSkipped:\n%s", all_skips
	printf "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped
	exit failed > 0 || passed + skipped == 0
}
