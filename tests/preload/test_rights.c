/* SPDX-License-Identifier: MIT */
/*
 * What happens around a change of rights, without an engine: which of its functions are called, in
 * which order. The C library's own functions change the rights of forked children.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine.h"
#include "rights.h"
#include "shim.h"

enum { NOBODY = 65534 };

SHIM_TLS enum thread_mode thread_mode;

static char calls[16]; /* one letter for each */

static void call(char which)
{
	size_t n = strlen(calls);

	if (n + 1 < sizeof(calls))
		calls[n] = which;
}

bool shim_is_armed(void)
{
	return true;
}

void engine_start(void)
{
	call('s');
}

void engine_hold(void)
{
	call('h');
}

void engine_release(void)
{
	call('r');
}

void engine_give(uid_t from, uid_t to)
{
	call(from == geteuid() && to == NOBODY ? 'g' : 'b');
}

/* In a child, which is root or not, @act returned, and these were called. */
static void assert_calls(int (*act)(void), const char *as_root, const char *as_other)
{
	const char *wanted = geteuid() ? as_other : as_root;
	int status, pid = fork(), ret;

	if (!pid) {
		rights_fork_child();
		memset(calls, 0, sizeof(calls));
		ret = act();
		_exit(ret != (geteuid() == NOBODY ? 0 : -1) || strcmp(calls, wanted) != 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int user(void)
{
	return setuid(NOBODY);
}

static int effective(void)
{
	return seteuid(NOBODY);
}

static int real_and_effective(void)
{
	return setreuid(NOBODY, NOBODY);
}

static int all_three(void)
{
	return setresuid(NOBODY, NOBODY, NOBODY);
}

/* Where it fails, what was given is given back. */
static void who_gives_rights_up_has_the_engine_first_and_standing_still(void **state)
{
	(void)state;
	assert_calls(user, "shgr", "hgbr");
	assert_calls(real_and_effective, "shgr", "hgbr");
	assert_calls(all_three, "shgr", "hgbr");
}

static void rights_that_can_be_taken_back_give_nothing_away(void **state)
{
	(void)state;
	assert_calls(effective, "shr", "hr");
}

static int same(void)
{
	return setuid(geteuid()) - 1;
}

static int internal(void)
{
	thread_mode = THREAD_INTERNAL;
	return setuid(NOBODY);
}

static void who_changes_nothing_does_not_disturb_the_engine(void **state)
{
	(void)state;
	assert_calls(same, "", "");
	assert_calls(internal, "", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_gives_rights_up_has_the_engine_first_and_standing_still),
		cmocka_unit_test(rights_that_can_be_taken_back_give_nothing_away),
		cmocka_unit_test(who_changes_nothing_does_not_disturb_the_engine),
	};

	/* Else the child that is nobody already would succeed. */
	if (geteuid() == NOBODY)
		return 77;
	rights_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
