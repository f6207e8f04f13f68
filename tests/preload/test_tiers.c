/* SPDX-License-Identifier: MIT */
/*
 * The devices that pages are put on, two small ones, on libumm as it is: what is begun, and what
 * is not, goes where there is room.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "harness.h"
#include "ref_device.h"
#include "shim.h"
#include "tier.h"
#include "tiers.h"

enum { FIRST = 4, SECOND = 8, BOTH = FIRST + SECOND, MORE = 6 };

static struct ref_device *devices[2];
static unsigned ndevices;
static _Atomic unsigned lines; /* that were said */
static _Atomic size_t lost;    /* pages */
static struct umm_ctx *ctx;
static char *memory;

/* ---- the shim -------------------------------------------------------------------------- */

void shim_say(const char *format, ...)
{
	(void)format;
	lines++;
}

bool tier_directory(const void *inside, char *dir, size_t dir_len)
{
	(void)inside;
	(void)dir;
	(void)dir_len;
	return false;
}

static int device_open(struct umm_ctx *of, const char *name, uint64_t bytes,
		       struct umm_devmem **out, struct umm_tier_reason *reason)
{
	struct ref_options options = {
		.type = UMM_DEVMEM_PRIVATE,
		.nframes = (uint32_t)(bytes / PAGE),
		.inline_copy = true,
	};
	int ret = ref_create(of, &options, &devices[ndevices]);

	(void)name;
	(void)reason;
	if (!ret)
		*out = devices[ndevices++]->mem;
	return ret;
}

const struct umm_tier_ops *tier_load(const struct settings_device *device, const char *dir,
				     struct umm_tier_reason *reason)
{
	static const struct umm_tier_ops ops = { .size = sizeof(ops), .open = device_open };

	(void)device;
	(void)dir;
	(void)reason;
	return &ops;
}

static void failed(void *priv, struct umm_devmem *mem, int error, size_t nlost)
{
	int tier = tiers_failed(mem, error, nlost);

	(void)priv;
	assert_true(tier >= 0 && devices[tier]->mem == mem);
	atomic_fetch_add(&lost, nlost);
}

static int setup(void **state)
{
	struct umm_ctx_options options = { .size = sizeof(options),
					   .readahead = UMM_READAHEAD_OFF,
					   .failed = failed };
	struct settings settings;

	(void)state;
	settings_default(&settings);
	tiers_placement(&place_first);
	settings.ndevices = 2;
	settings.devices[0].len = FIRST * PAGE;
	settings.devices[1].len = SECOND * PAGE;
	ndevices = 0;
	lines = 0;
	lost = 0;
	assert_int_equal(umm_ctx_create(&options, &ctx), 0);
	assert_int_equal(tiers_open(ctx, &settings), 2);
	memory = mmap(NULL, (BOTH + MORE) * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	assert_int_equal(umm_attach(ctx, memory, (BOTH + MORE) * PAGE), 0);
	for (unsigned page = 0; page < BOTH + MORE; page++)
		memory[page * PAGE] = (char)(page + 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	umm_ctx_put(ctx);
	munmap(memory, (BOTH + MORE) * PAGE);
	for (unsigned i = 0; i < ndevices; i++)
		assert_true(ref_destroy(devices[i]));
	return 0;
}

/* ---- the engine ------------------------------------------------------------------------ */

static struct umm_span span_of(unsigned page, unsigned npages)
{
	return (struct umm_span){ .start = (uintptr_t)memory + page * PAGE, .len = npages * PAGE };
}

static void begin(unsigned page, unsigned npages)
{
	struct umm_span span = span_of(page, npages);

	tiers_take_begin(ctx, &span, 1);
}

static long take(unsigned page, unsigned npages)
{
	struct umm_span span = span_of(page, npages);

	return tiers_take(ctx, &span, 1);
}

/* A thread may go on before the frame that its page was in is free. */
static void come_home(unsigned page, unsigned npages)
{
	for (; npages--; page++)
		assert_int_equal(memory[page * PAGE], page + 1);
}

static void what_the_first_has_no_room_for_goes_to_the_next(void **state)
{
	(void)state;
	assert_int_equal(tiers_free(), BOTH);
	begin(0, FIRST + 2);
	assert_int_equal(take(0, FIRST + 2), FIRST + 2);
	assert_int_equal(umm_devmem_nfree(devices[0]->mem), 0);
	assert_int_equal(tiers_free(), SECOND - 2);
	assert_int_equal(take(FIRST + 2, SECOND - 1), SECOND - 2);
	assert_int_equal(tiers_free(), 0);
	assert_int_equal(take(BOTH, 1), -ENOSPC);
	come_home(0, BOTH + MORE);
	wait_until(tiers_free() == BOTH);
}

/* Those that are chosen are chosen where it begins; who takes without that chooses anew. */
static void what_began_with_no_room_goes_nowhere(void **state)
{
	(void)state;
	assert_int_equal(take(0, BOTH), BOTH);
	begin(BOTH, MORE);
	come_home(0, BOTH);
	assert_int_equal(take(BOTH, MORE), -ENOSPC);
	wait_until(tiers_free() == BOTH);
	assert_int_equal(take(BOTH, MORE), MORE);
	come_home(BOTH, MORE);
	wait_until(tiers_free() == BOTH);
}

/* It was in order when it began. */
static void who_fails_meanwhile_is_asked_no_more(void **state)
{
	struct ref_failure failure = { .error = -EIO, .to_device = true };

	(void)state;
	assert_int_equal(ref_fail(devices[0], &failure), 0);
	begin(0, MORE);
	assert_int_equal(take(0, MORE), MORE);
	assert_int_equal(lines, 1);
	assert_int_equal(umm_devmem_nfree(devices[1]->mem), SECOND - MORE);
	assert_int_equal(tiers_free(), SECOND - MORE);
	ref_fail(devices[0], NULL);
	assert_int_equal(take(MORE, MORE), SECOND - MORE);
	assert_int_equal(take(BOTH, 1), -ENOSPC);
	assert_int_equal(lines, 1);
	come_home(0, BOTH + MORE);
}

/* From the next batch on: what has begun goes where it was to go. */
static void placement_changes_between_batches(void **state)
{
	(void)state;
	assert_int_equal(take(0, 1), 1);
	begin(1, 1);
	tiers_placement(&place_roomiest);
	assert_int_equal(take(1, 1), 1);
	assert_int_equal(umm_devmem_nfree(devices[0]->mem), FIRST - 2);
	assert_int_equal(take(2, 1), 1);
	assert_int_equal(umm_devmem_nfree(devices[1]->mem), SECOND - 1);
	tiers_placement(&place_first);
	assert_int_equal(take(3, 2), 2);
	assert_int_equal(umm_devmem_nfree(devices[0]->mem), 0);
	assert_int_equal(umm_devmem_nfree(devices[1]->mem), SECOND - 1);
	come_home(0, BOTH + MORE);
}

static sigjmp_buf lost_page;

static void lost_here(int signal)
{
	(void)signal;
	siglongjmp(lost_page, 1);
}

/* Whoever touches a lost page finds it counted, and its device out of use. */
static void a_lost_page_is_told_of_before_its_sigbus(void **state)
{
	struct ref_failure failure = { .error = -EIO, .from_device = true };
	volatile unsigned found = 0;

	(void)state;
	assert_ptr_not_equal(signal(SIGBUS, lost_here), SIG_ERR);
	assert_int_equal(take(0, FIRST), FIRST);
	assert_int_equal(ref_fail(devices[0], &failure), 0);
	for (volatile unsigned page = 0; page < FIRST; page++) {
		if (sigsetjmp(lost_page, 1)) {
			found++;
			assert_int_equal(lost, found);
			assert_int_equal(tiers_free(), SECOND);
			assert_int_equal(lines, 1);
			continue;
		}
		assert_int_equal(*(volatile char *)(memory + page * PAGE), -1);
	}
	assert_int_equal(found, FIRST);
	ref_fail(devices[0], NULL);
	assert_ptr_not_equal(signal(SIGBUS, SIG_DFL), SIG_ERR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_the_first_has_no_room_for_goes_to_the_next,
						setup, teardown),
		cmocka_unit_test_setup_teardown(what_began_with_no_room_goes_nowhere, setup,
						teardown),
		cmocka_unit_test_setup_teardown(who_fails_meanwhile_is_asked_no_more, setup,
						teardown),
		cmocka_unit_test_setup_teardown(placement_changes_between_batches, setup, teardown),
		cmocka_unit_test_setup_teardown(a_lost_page_is_told_of_before_its_sigbus, setup,
						teardown),
	};

	struct umm_probe_info info = { .size = sizeof(info) };

	if (umm_probe(&info) || info.uffd_access == UMM_UFFD_NONE) {
		printf("SKIPPED: %s\n", info.advice);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
