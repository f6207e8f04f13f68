/* SPDX-License-Identifier: MIT */
/*
 * Handlers of SIGBUS that come while OpenCL's platforms are loaded: as if by another thread, from
 * inside of the call that loads them.
 */
#include "rig.h"

#include <dlfcn.h>
#include <signal.h>

#define NPAGES 64

static struct umm_ctx *opened;
static int open_error;
static void (*before_loading)(void), (*after_loading)(void);

static void call_once(void (**what)(void))
{
	void (*now)(void) = *what;

	*what = NULL;
	if (now)
		now();
}

/* In the place of the loader's. */
#pragma GCC visibility push(default)
cl_int clGetPlatformIDs(cl_uint most, cl_platform_id *platforms, cl_uint *count)
{
	__typeof__(&clGetPlatformIDs) real =
		(__typeof__(&clGetPlatformIDs))(uintptr_t)dlsym(RTLD_NEXT, "clGetPlatformIDs");
	cl_int err;

	call_once(&before_loading);
	err = real(most, platforms, count);
	call_once(&after_loading);
	return err;
}
#pragma GCC visibility pop

static void open_in_thread(void)
{
	struct umm_ctx_options options = { .size = sizeof(options),
					   .flags = UMM_CTX_FAULTS_IN_THREAD };

	open_error = umm_ctx_create(&options, &opened);
}

static void on_sigbus(int signo)
{
	(void)signo;
}

static void handle_sigbus(void)
{
	const struct sigaction ours = { .sa_handler = on_sigbus };

	assert_int_equal(sigaction(SIGBUS, &ours, NULL), 0);
}

static int look(void *priv, const struct umm_opencl_info *info)
{
	(void)priv;
	(void)info;
	return 0;
}

static void list(void)
{
	if (umm_opencl_list(look, NULL) == -ENODEV)
		rig_skip("%s", umm_opencl_advice());
}

static void a_context_that_is_opened_while_platforms_are_loaded_serves_its_faults(void **state)
{
	struct rig *rig = *state;
	uint32_t *words;

	/* Not cmocka's. */
	signal(SIGBUS, SIG_DFL);
	before_loading = open_in_thread;
	list();
	if (open_error == -EPERM || open_error == -EOPNOTSUPP)
		rig_skip("no userfaultfd, or not x86-64: %s", umm_strerror(open_error));
	assert_int_equal(open_error, 0);
	rig->ctx = opened;
	rig_open(rig, MIB, NULL);
	words = rig_numbered(rig, NPAGES);
	assert_int_equal(umm_migrate_to_device(rig->ctx, umm_opencl_devmem(rig->ocl), words,
					       NPAGES * PAGE),
			 NPAGES);
	for (size_t i = 0; i < NPAGES * PAGE / 4; i++)
		assert_int_equal(words[i], i);
}

static void a_handler_that_comes_while_platforms_are_loaded_stays(void **state)
{
	struct sigaction before, now;

	(void)state;
	assert_int_equal(sigaction(SIGBUS, NULL, &before), 0);
	after_loading = handle_sigbus;
	list();
	assert_int_equal(sigaction(SIGBUS, &before, &now), 0);
	assert_true(now.sa_handler == on_sigbus);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		/* First: platforms are loaded once in a process. */
		rig_test(a_context_that_is_opened_while_platforms_are_loaded_serves_its_faults),
		rig_test(a_handler_that_comes_while_platforms_are_loaded_stays),
	};

	return rig_main("opencl sigbus", tests, argc, argv);
}
