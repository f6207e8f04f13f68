# SPDX-License-Identifier: MIT
# Sums up ctest runs: failures, skips with the reasons that the tests printed, one last line.
# For every preset it reads ctest's own log for the outcome of each test, then what the
# tests printed. The cases of a cmocka program count one by one, and so do the lines of one
# that speaks TAP ("ok 1 name", "not ok 2 name", "ok 3 # SKIP name: reason"); any other test
# counts as one. What failed may have been run again: if it passed then, it was unsteady.
# usage: awk -f tally.awk [-v broken="PRESET:STEP..."] {preset=NAME kind=again CTEST_LOG}... \
#            {preset=NAME kind=outcome CTEST_LOG kind=output LAST_TEST_LOG}...

function fail(what, test)
{
	if (again[preset, test] == "passed") {
		unsteady = unsteady "  " what "\n"
		return
	}
	failed++
	failures = failures "  " what "\n"
}

function skip(what)
{
	skipped++
	skips = skips "  " what ": " (reason ? reason : "no reason was printed") "\n"
}

kind != "output" && /^ *([0-9]+\/[0-9]+ +)?Test +#[0-9]+: / {
	sub(/^ *([0-9]+\/[0-9]+ +)?Test +#[0-9]+: /, "")
	result = /[. ] +Passed +[0-9.]+ sec/ ? "passed" : \
		 /\*\*\*Skipped|\*\*\*Not Run \(Disabled\)/ ? "skipped" : "failed"
	if (kind == "again")
		again[preset, $1] = result
	else
		outcome[preset, $1] = result
}

kind != "output" {
	next
}

/^[0-9]+\/[0-9]+ Testing: / {
	name = $3
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
	passed++
	current = ""
}

running && /\[  FAILED  \] / {
	fail(preset " " name ": " $NF, name)
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
		passed++
	}
}

tap && /^not ok [0-9]+ / {
	cases++
	bad++
	fail(preset " " name ": " $4, name)
}

/^<end of output>$/ {
	result = outcome[preset, name]
	if (result == "failed" && current)
		fail(preset " " name ": died in " current, name)
	else if (result == "failed" && !bad)
		fail(preset " " name, name)
	else if (result == "skipped" && !cases)
		skip(preset " " name)
	else if (result == "passed" && !cases)
		passed++
}

END {
	n = split(broken, steps)
	for (i = 1; i <= n; i++) {
		sub(/:/, ": no result from ", steps[i])
		fail(steps[i])
	}
	if (failures)
		printf "\nFailed:\n%s", failures
	if (unsteady)
		printf "\nUnsteady, failed once and passed when run again, alone:\n%s", unsteady
	if (skips)
		printf "\nSkipped:\n%s", skips
	printf "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped
	exit failed > 0 || passed + skipped == 0
}
