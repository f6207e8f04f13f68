/* SPDX-License-Identifier: MIT */
/*
 * Pages that a pipe refers to (vmsplice()), and that go to a device before somebody reads them. The
 * kernel lets them be moved, for it takes no pin; so their frames may be used for other pages,
 * unless frames are not recycled, or the pages are pinned.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "harness.h"

#define NLENT	16
#define NPAGES	UMM_BLOCK_PAGES
#define NFRAMES (2 * NPAGES)

struct loan {
	struct ref_device *ref;
	char *lent;  /* a block, of which the first NLENT pages will be in the pipe */
	char *other; /* a block that is on the device, and needs frames when it comes home */
	int in, out;
};

static struct loan loan_begin(struct env *e)
{
	struct loan loan = { .ref = env_device(e, NFRAMES) };
	int fds[2];

	if (!variant_has_syscalls(&e->variant))
		env_skip("vmsplice() of managed memory needs faults of system calls");
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	loan.out = fds[0];
	loan.in = fds[1];
	loan.lent = env_alloc(e, NPAGES * PAGE);
	loan.other = env_alloc(e, NPAGES * PAGE);
	fill(loan.lent, NPAGES, 1);
	fill(loan.other, NPAGES, 2);
	assert_int_equal(umm_migrate_to_device(e->ctx, loan.ref->mem, loan.other, NPAGES * PAGE),
			 NPAGES);
	return loan;
}

static void lend(const struct loan *loan)
{
	struct iovec pages = { loan->lent, NLENT * PAGE };

	assert_int_equal(vmsplice(loan->in, &pages, 1, 0), NLENT * PAGE);
}

/* Who reads the pipe gets what was sent, whatever has become of the pages. */
static void loan_end(struct loan *loan)
{
	static char got[NLENT * PAGE];
	size_t n = 0;
	ssize_t ret;

	assert_filled(loan->other, NPAGES, 2);
	while (n < sizeof(got)) {
		ret = read(loan->out, got + n, sizeof(got) - n);
		assert_true(ret > 0);
		n += (size_t)ret;
	}
	assert_filled(got, NLENT, 1);
	assert_filled(loan->lent, NPAGES, 1);
	close(loan->in);
	close(loan->out);
}

static void page_in_a_pipe_is_read_as_it_was_sent_if_no_frames_are_recycled(struct env *e)
{
	struct loan loan = loan_begin(e);

	assert_true(umm_ctx_trim(e->ctx, 0) >= 0);
	lend(&loan);
	assert_int_equal(umm_migrate_to_device(e->ctx, loan.ref->mem, loan.lent, NPAGES * PAGE),
			 NPAGES);
	loan_end(&loan);
}

static void page_in_a_pipe_that_is_pinned_stays_and_is_read_as_it_was_sent(struct env *e)
{
	struct loan loan = loan_begin(e);
	struct umm_pin *pin;

	assert_int_equal(umm_pin(e->ctx, (uintptr_t)loan.lent, NLENT, 0, &pin), 0);
	lend(&loan);
	/* Of a huge page that the pipe refers to none can go. */
	assert_in_range(umm_migrate_to_device(e->ctx, loan.ref->mem, loan.lent, NPAGES * PAGE), 0,
			NPAGES - NLENT);
	loan_end(&loan);
	umm_unpin(pin);
}

static const struct test_case cases[] = {
	TEST(KERNEL, page_in_a_pipe_is_read_as_it_was_sent_if_no_frames_are_recycled),
	TEST(KERNEL, page_in_a_pipe_that_is_pinned_stays_and_is_read_as_it_was_sent),
};

int main(int argc, char **argv)
{
	return harness_main("test_lent", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
