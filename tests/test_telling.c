/* SPDX-License-Identifier: MIT */
/*
 * Mirrors and notifiers are told of what has changed already, some of them only after their
 * holder has let go: nobody else waits for that, and who does not know is waited for.
 */
#include "hinted.h"
#include "holder.h"

#include <sys/mman.h>

#define MANY 70 /* more than there may be workers */

static struct holder held, second;

static struct umm_notifier *hold(struct env *e, void *addr, size_t npages)
{
	return holder_hold(e, addr, npages, &held);
}

static void let_go(void)
{
	holder_let_go(&held);
	holder_let_go(&second);
}

static void touch(void *arg)
{
	++*(volatile char *)arg;
}

/* ---- what a program does to its memory, while others are told of something else ---------- */

struct owner {
	struct env *env;
	char *p;
	bool right;
};

/* Another thread has dropped a held page, and that is being told. The holder has other memory. */
static struct owner while_a_change_is_told(struct env *e, struct ref_device *ref)
{
	char *p = env_alloc_small(e, 16 * PAGE);
	struct owner owner = { .env = e, .p = p + 8 * PAGE };

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	hold(e, p, 8);
	assert_int_equal(madvise(p, PAGE, MADV_DONTNEED), 0);
	wait_until(held.waiting == 1);
	return owner;
}

static void assert_ends(struct env *e, struct ref_device *ref, void (*fn)(void *))
{
	struct owner owner = while_a_change_is_told(e, ref);
	struct actor actor;

	actor_start(&actor, fn, &owner);
	wait_until(actor.done);
	assert_int_equal(held.waiting, 1);
	let_go();
	actor_join(&actor);
	assert_true(owner.right);
}

static void drop_and_touch(void *arg)
{
	struct owner *owner = arg;

	owner->right = !madvise(owner->p, 8 * PAGE, MADV_DONTNEED) && !*owner->p;
	touch(owner->p);
}

static void a_holder_drops_memory_and_uses_it_while_an_older_change_waits(struct env *e)
{
	assert_ends(e, env_device(e, 64), drop_and_touch);
}

static void move_and_touch(void *arg)
{
	struct owner *owner = arg;
	char *to = mmap(NULL, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	owner->right =
		mremap(owner->p, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to &&
		filled_at(to, 0, 9);
	owner->p = to;
}

static void a_holder_moves_memory_and_uses_it_while_an_older_change_waits(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 16 * PAGE);
	struct owner owner = { .env = e, .p = p + 8 * PAGE };
	struct actor actor;

	fill(p, 8, 1);
	fill(p + 8 * PAGE, 8, 9);
	to_device(e, ref, p, 16, 16);
	hold(e, p, 8);
	assert_int_equal(madvise(p, PAGE, MADV_DONTNEED), 0);
	wait_until(held.waiting == 1);
	env_forget(e, owner.p, 8 * PAGE);
	actor_start(&actor, move_and_touch, &owner);
	wait_until(actor.done);
	assert_int_equal(held.waiting, 1);
	let_go();
	actor_join(&actor);
	assert_true(owner.right);
	assert_filled(owner.p, 8, 9);
	env_unmap(e, owner.p, 8 * PAGE);
}

static void allocate_anew(void *arg)
{
	struct owner *owner = arg;
	void *again = NULL;

	umm_free(owner->env->ctx, owner->p);
	owner->right = !umm_alloc(owner->env->ctx, 8 * PAGE, UMM_ALLOC_SMALL_PAGES, &again);
	touch(again);
}

/* Frames of what was freed are free at once, too. */
static void memory_is_freed_and_had_again_while_an_older_change_waits(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct owner owner = while_a_change_is_told(e, ref);
	struct actor actor;
	void *own = NULL;

	assert_int_equal(umm_alloc(e->ctx, 8 * PAGE, UMM_ALLOC_SMALL_PAGES, &own), 0);
	owner.p = own;
	fill(own, 8, 1);
	to_device(e, ref, own, 8, 8);
	assert_int_equal(umm_devmem_nfree(ref->mem), 64 - 16 - 8);
	actor_start(&actor, allocate_anew, &owner);
	wait_until(actor.done);
	wait_until(umm_devmem_nfree(ref->mem) == 64 - 16);
	assert_int_equal(held.waiting, 1);
	let_go();
	actor_join(&actor);
	assert_true(owner.right);
	wait_until(umm_devmem_nfree(ref->mem) == 64 - 15);
}

static void move_mapping(void *arg)
{
	struct owner *owner = arg;
	char *to = mmap(NULL, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	owner->right =
		mremap(owner->p, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to;
	owner->p = to;
}

/* Frames that moved are not free before those know who still have them where they were. */
static void changes_of_a_page_end_in_their_order(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct owner owner = { .env = e, .p = env_attach(e, 8 * PAGE) };
	char *other = env_alloc_small(e, 8 * PAGE);
	struct actor actor;

	fill(owner.p, 8, 1);
	fill(other, 8, 1);
	to_device(e, ref, owner.p, 8, 8);
	to_device(e, ref, other, 8, 8);
	hold(e, owner.p, 8);
	env_forget(e, owner.p, 8 * PAGE);
	actor_start(&actor, move_mapping, &owner);
	wait_until(held.waiting == 1);
	actor_join(&actor);
	assert_true(owner.right);
	assert_int_equal(madvise(owner.p, 8 * PAGE, MADV_DONTNEED), 0);
	assert_int_equal(madvise(other, 8 * PAGE, MADV_DONTNEED), 0);
	wait_until(umm_devmem_nfree(ref->mem) >= 64 - 8);
	assert_int_equal(umm_devmem_nfree(ref->mem), 64 - 8);
	assert_int_equal(held.waiting, 1);
	let_go();
	wait_until(umm_devmem_nfree(ref->mem) == 64);
	env_unmap(e, owner.p, 8 * PAGE);
}

static void move_all(void *arg)
{
	struct owner *owner = arg;
	char *to = mmap(NULL, 16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	owner->right =
		mremap(owner->p, 16 * PAGE, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to;
	owner->p = to;
}

/* ---- who knows goes on ------------------------------------------------------------------ */

struct reader {
	struct ref_device *ref;
	const char *from;
	char bytes[PAGE];
	int ret;
};

static void read_page(void *arg)
{
	struct reader *reader = arg;

	reader->ret = ref_read(reader->ref, (uintptr_t)reader->from, reader->bytes, PAGE);
}

/* The device reads zeroes, or page i of what was filled with seed 1, and waits for nobody. */
static void assert_reads(struct ref_device *ref, const char *p, size_t i, bool zero)
{
	struct reader reader = { .ref = ref, .from = p + i * PAGE, .ret = -1 };
	struct actor actor;

	actor_start(&actor, read_page, &reader);
	wait_until(actor.done);
	actor_join(&actor);
	assert_int_equal(reader.ret, 0);
	assert_true(zero ? page_zero(reader.bytes) : page_filled(reader.bytes, i, 1));
}

struct asker {
	struct umm_notifier *notifier;
	uint64_t seq;
};

static void run_begin(void *arg)
{
	struct asker *asker = arg;

	asker->seq = umm_notifier_read_begin(asker->notifier);
}

/* Who has not been told is waited for, and lets its readers go on then. */
static void assert_begins_after(struct umm_notifier *notifier)
{
	struct asker asker = { .notifier = notifier };
	struct actor actor;

	actor_start(&actor, run_begin, &asker);
	assert_true(actor_blocks(&actor));
	let_go();
	actor_join(&actor);
	assert_false(umm_notifier_read_retry(notifier, asker.seq));
}

static void devices_that_know_of_a_change_go_on_while_others_are_told(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 24 * PAGE);
	struct umm_notifier *notifier;

	fill(p, 24, 1);
	to_device(e, ref, p, 24, 24);
	notifier = hold(e, p, 8);
	assert_int_equal(madvise(p, 16 * PAGE, MADV_DONTNEED), 0);
	wait_until(held.waiting == 1);
	assert_reads(ref, p, 20, false);
	/* The change is about this one, too, but the holder is not. */
	assert_reads(ref, p, 12, true);
	/* Frames of its pages are free, and this page has one of them. */
	wait_until(umm_devmem_nfree(ref->mem) == 64 - 16 - 1);
	assert_int_equal(held.waiting, 1);
	assert_begins_after(notifier);
	assert_zero(p, 16);
	assert_filled_part(p, 16, 8, 1);
}

static void holders_are_told_of_a_change_one_beside_the_other(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct umm_notifier *first, *other;

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	first = hold(e, p, 8);
	other = holder_hold(e, p + 8 * PAGE, 8, &second);
	assert_int_equal(madvise(p, 16 * PAGE, MADV_DONTNEED), 0);
	wait_until(held.waiting == 1 && second.waiting == 1);
	holder_let_go(&second);
	/* Its pages are to be had, those of the first are not. */
	umm_notifier_read_begin(other);
	assert_reads(ref, p, 12, true);
	assert_int_equal(held.waiting, 1);
	assert_begins_after(first);
	assert_zero(p, 16);
	wait_until(umm_devmem_nfree(ref->mem) == 64);
}

/* A notifier of all of it is told later, too, of two changes: as where a launch is at work. */
static void what_is_known_of_a_change_goes_on_whatever_else_is_told(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 32 * PAGE);
	struct umm_notifier *notifier;

	fill(p, 32, 1);
	to_device(e, ref, p, 32, 32);
	notifier = hold(e, p, 8);
	holder_hold(e, p, 32, &second);
	assert_int_equal(madvise(p, 16 * PAGE, MADV_DONTNEED), 0);
	assert_int_equal(madvise(p + 20 * PAGE, 4 * PAGE, MADV_DONTNEED), 0);
	wait_until(held.waiting == 1 && second.waiting == 1);
	holder_let_go(&second);
	assert_reads(ref, p, 12, true);
	assert_reads(ref, p, 22, true);
	assert_int_equal(held.waiting, 1);
	assert_begins_after(notifier);
}

static void later_changes_of_what_is_known_do_not_wait_either(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct umm_notifier *notifier;

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	notifier = hold(e, p, 8);
	assert_int_equal(madvise(p, 16 * PAGE, MADV_DONTNEED), 0);
	wait_until(held.waiting == 1);
	assert_reads(ref, p, 12, true);
	/* One is there already. */
	to_device(e, ref, p + 8 * PAGE, 8, 7);
	assert_int_equal(madvise(p + 8 * PAGE, 8 * PAGE, MADV_DONTNEED), 0);
	assert_reads(ref, p, 12, true);
	assert_int_equal(held.waiting, 1);
	assert_begins_after(notifier);
}

/* Of the second change all who watch its last pages know, but not of the first one's move. */
static void frames_that_moved_wait_for_who_knew_them_before(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 16 * PAGE);
	struct owner owner = { .env = e, .p = p };
	struct umm_notifier *notifier;
	struct actor actor;

	fill(p, 8, 1);
	fill(p + 8 * PAGE, 8, 9);
	to_device(e, ref, p, 16, 16);
	hold(e, p + 8 * PAGE, 8);
	env_forget(e, p, 16 * PAGE);
	actor_start(&actor, move_all, &owner);
	wait_until(held.waiting == 1);
	actor_join(&actor);
	assert_true(owner.right);
	notifier = holder_hold(e, owner.p, 8, &second);
	assert_int_equal(madvise(owner.p, 16 * PAGE, MADV_DONTNEED), 0);
	wait_until(second.waiting == 1);
	holder_let_go(&second);
	umm_notifier_read_begin(notifier);
	wait_until(second.waiting == 0);
	/* Neither told in part nor told whole has it given anything back. */
	assert_int_equal(umm_devmem_nfree(ref->mem), 64 - 16);
	assert_int_equal(held.waiting, 1);
	let_go();
	wait_until(umm_devmem_nfree(ref->mem) == 64);
	assert_zero(owner.p, 16);
	env_unmap(e, owner.p, 16 * PAGE);
}

static void a_holder_owes_no_more_threads_for_many_changes(struct env *e)
{
	struct ref_device *ref = env_device(e, 200);
	char *p = env_alloc_small(e, MANY * PAGE), *q = env_alloc_small(e, 8 * PAGE);
	struct umm_notifier *notifier;

	fill(p, MANY, 1);
	fill(q, 8, 1);
	to_device(e, ref, p, MANY, MANY);
	to_device(e, ref, q, 8, 8);
	notifier = hold(e, p, MANY);
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(madvise(p + i * PAGE, PAGE, MADV_DONTNEED), 0);
	wait_until(held.waiting == 1);
	assert_int_equal(madvise(q, PAGE, MADV_DONTNEED), 0);
	assert_reads(ref, q, 0, true);
	assert_reads(ref, q, 1, false);
	assert_int_equal(held.waiting, 1);
	assert_begins_after(notifier);
	assert_zero(p, MANY);
	wait_until(umm_devmem_nfree(ref->mem) >= 200 - 8);
}

static void who_finds_a_mapping_that_allows_less_does_not_wait_for_a_holder(struct env *e)
{
	struct ref_device *ref = env_device(e, 64), *other = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct umm_notifier *notifier, *behind;

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	device_fill(ref, p, 16, 1);
	notifier = hold(e, p, 8);
	behind = holder_hold(e, p + 12 * PAGE, 4, &second);
	assert_int_equal(mprotect(p, 10 * PAGE, PROT_READ), 0);
	/* Both look at pages that are the holder's, and have to be told of it. */
	assert_int_equal(umm_notifier_refresh(umm_mirror_notifier(other->mirror)), 0);
	wait_until(held.waiting == 1);
	assert_int_equal(ref_counts(ref).events[UMM_EVENT_PROTECTION_VMA], 1);
	assert_reads(ref, p, 4, false);
	/* Only pages that allow less are announced. */
	umm_notifier_read_begin(behind);
	assert_int_equal(second.waiting, 0);
	assert_int_equal(held.waiting, 1);
	assert_begins_after(notifier);
	assert_int_equal(ref_counts(ref).events[UMM_EVENT_PROTECTION_VMA], 1);
}

/* ---- where several refuse --------------------------------------------------------------- */

static void bring_home(void *arg)
{
	struct owner *owner = arg;

	owner->right = umm_migrate_to_system(owner->env->ctx, owner->p, 16 * PAGE) == 16;
}

/* One watches everything and waits for nobody, the other is held: as a launch and a window. */
static void who_is_waited_for_keeps_none_but_its_own_pages(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct owner owner = { .env = e, .p = p };
	struct actor mover, toucher;

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	holder_watch(e, p, 16, NULL);
	hold(e, p + 4 * PAGE, 4);
	holder_hold(e, p + 6 * PAGE, 6, &second);
	actor_start(&mover, bring_home, &owner);
	wait_until(held.waiting + second.waiting == 1);
	for (size_t i = 0; i < 16; i += i == 3 ? 9 : 1) {
		actor_start(&toucher, touch, p + i * PAGE);
		wait_until(toucher.done);
		actor_join(&toucher);
	}
	assert_state(e, p, 4, UMM_PAGE_SYSTEM);
	assert_state(e, p + 12 * PAGE, 4, UMM_PAGE_SYSTEM);
	assert_int_equal(held.waiting + second.waiting, 1);
	let_go();
	actor_join(&mover);
	assert_true(owner.right);
	assert_state(e, p, 16, UMM_PAGE_SYSTEM);
	assert_filled_part(p, 4, 8, 1);
}

/* A notifier hears of pages, of which its interval may be a part. */
static void an_interval_inside_of_a_page_is_waited_for_with_it(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct umm_span span = { (uintptr_t)p + 3 * PAGE + 100, 50 };
	struct owner owner = { .env = e, .p = p };
	struct umm_notifier *notifier;
	struct actor mover;

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	held.let = false;
	notifier = holder_watch_span(e, &span, &held);
	actor_start(&mover, bring_home, &owner);
	wait_until(held.waiting == 1);
	assert_filled_part(p, 0, 3, 1);
	assert_filled_part(p, 4, 12, 1);
	assert_begins_after(notifier);
	actor_join(&mover);
	assert_true(owner.right);
	assert_filled(p, 16, 1);
}

/* ---- threads that wait are replaced ------------------------------------------------------ */

static void a_device_that_waits_to_map_holds_up_no_request(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE), *q = env_alloc_small(e, PAGE);
	struct umm_notifier_range range = {
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + 8 * PAGE,
		.event = UMM_EVENT_PROTECTION_VMA,
		.blockable = true,
	};
	struct umm_invalidation *invalidation;
	struct umm_fence *fence;

	fill(p, 8, 1);
	fill(q, 1, 1);
	assert_int_equal(umm_invalidate_range_start(e->ctx, &range, &invalidation), 0);
	ADVISE(e, p, 8, .hint = UMM_HINT_ACCESSED_BY, .dev = ref->dev);
	fence = migrate_start(e, ref, q, 1);
	assert_int_equal(umm_fence_wait(fence, PATIENCE_MS), 0);
	assert_int_equal(umm_fence_value(fence), 1);
	umm_fence_put(fence);
	assert_int_equal(ref_counts(ref).accessed, 0);
	umm_invalidate_range_end(e->ctx, invalidation);
	wait_until(ref_entry(ref, (uintptr_t)p) & UMM_ENTRY_VALID);
}

static const struct test_case cases[] = {
	TEST(PRIVATE, a_holder_drops_memory_and_uses_it_while_an_older_change_waits),
	TEST(PRIVATE, a_holder_moves_memory_and_uses_it_while_an_older_change_waits),
	TEST(PRIVATE, memory_is_freed_and_had_again_while_an_older_change_waits),
	TEST(PRIVATE, changes_of_a_page_end_in_their_order),
	TEST(PRIVATE, devices_that_know_of_a_change_go_on_while_others_are_told),
	TEST(PRIVATE, holders_are_told_of_a_change_one_beside_the_other),
	TEST(PRIVATE, what_is_known_of_a_change_goes_on_whatever_else_is_told),
	TEST(PRIVATE, later_changes_of_what_is_known_do_not_wait_either),
	TEST(PRIVATE, frames_that_moved_wait_for_who_knew_them_before),
	TEST(PRIVATE, a_holder_owes_no_more_threads_for_many_changes),
	TEST(ALL, who_finds_a_mapping_that_allows_less_does_not_wait_for_a_holder),
	TEST(ALL, who_is_waited_for_keeps_none_but_its_own_pages),
	TEST(ALL, an_interval_inside_of_a_page_is_waited_for_with_it),
	TEST(ALL, a_device_that_waits_to_map_holds_up_no_request),
};

int main(int argc, char **argv)
{
	harness_cleanup(let_go);
	return harness_main("test_telling", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
