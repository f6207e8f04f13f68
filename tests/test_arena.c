/* SPDX-License-Identifier: MIT */
/* Pools and private mappings: alignment, reuse, what survives a free, many threads. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "arena.h"
#include "util.h"

#define NR_OBJS	   5000
#define NR_THREADS 4
#define NR_ROUNDS  20000

struct object {
	unsigned constructed;
	_Atomic unsigned owner;
	char payload[88];
};

static _Atomic unsigned nr_constructed;

static void object_ctor(void *obj)
{
	struct object *object = obj;

	object->constructed++;
	atomic_fetch_add(&nr_constructed, 1);
}

static void objects_are_distinct_and_aligned(void **state)
{
	static struct object *objs[NR_OBJS];
	struct pool pool;

	(void)state;
	pool_init(&pool, sizeof(struct object), NULL);
	for (size_t i = 0; i < NR_OBJS; i++) {
		objs[i] = pool_alloc(&pool);
		assert_non_null(objs[i]);
		assert_true(is_aligned((uintptr_t)objs[i], 64));
		memset(objs[i], (int)(i % 251), sizeof(*objs[i]));
	}
	for (size_t i = 0; i < NR_OBJS; i++)
		for (size_t j = 0; j < sizeof(struct object); j++)
			assert_int_equal(((unsigned char *)objs[i])[j], i % 251);
	assert_true(atomic_load(&pool.mapped) >= NR_OBJS * sizeof(struct object));
	for (size_t i = 0; i < NR_OBJS; i++)
		pool_free(&pool, objs[i]);
	pool_fini(&pool);
	assert_int_equal(atomic_load(&pool.mapped), 0);
}

static void constructor_runs_once_per_object(void **state)
{
	struct pool pool;
	struct object *object;

	(void)state;
	atomic_store(&nr_constructed, 0);
	pool_init(&pool, sizeof(struct object), object_ctor);
	for (unsigned i = 0; i < 3 * NR_OBJS; i++) {
		object = pool_alloc(&pool);
		assert_int_equal(object->constructed, 1);
		pool_free(&pool, object);
	}
	/* One object at a time never needs a second slab. */
	assert_in_range(atomic_load(&pool.mapped), 1, 64 << 10);
	assert_in_range(atomic_load(&nr_constructed), 1, (64 << 10) / sizeof(struct object));
	pool_fini(&pool);
}

static void freed_object_keeps_its_contents(void **state)
{
	struct pool pool;
	struct object *object, copy;

	(void)state;
	pool_init(&pool, sizeof(struct object), NULL);
	object = pool_alloc(&pool);
	memset(object, 0xa5, sizeof(*object));
	copy = *object;
	pool_free(&pool, object);
	assert_memory_equal(object, &copy, sizeof(copy));
	assert_ptr_equal(pool_alloc(&pool), object);
	assert_memory_equal(object, &copy, sizeof(copy));
	pool_fini(&pool);
}

static void odd_sizes_do_not_overlap(void **state)
{
	static const size_t sizes[] = { 1, 55, 56, 57, 63, 64, 4096, 65472, 65536, 300000 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct pool pool;
		unsigned char *a, *b;

		pool_init(&pool, sizes[i], NULL);
		a = pool_alloc(&pool);
		b = pool_alloc(&pool);
		assert_non_null(a);
		assert_non_null(b);
		assert_true(a + sizes[i] <= b || b + sizes[i] <= a);
		memset(a, 0x11, sizes[i]);
		memset(b, 0x22, sizes[i]);
		pool_free(&pool, a);
		assert_ptr_equal(pool_alloc(&pool), a);
		assert_int_equal(a[sizes[i] - 1], 0x11);
		assert_int_equal(b[0], 0x22);
		pool_fini(&pool);
	}
}

static void packed_objects_lie_side_by_side(void **state)
{
	static const size_t sizes[] = { 8, 64, 88, 4096 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct pool pool;
		unsigned char *a, *b;

		pool_init(&pool, sizes[i], NULL);
		pool_pack(&pool);
		a = pool_alloc(&pool);
		b = pool_alloc(&pool);
		assert_ptr_equal(b, a + sizes[i]);
		assert_int_equal(atomic_load(&pool.mapped), 2 * sizes[i]);
		memset(a, 0x11, sizes[i]);
		memset(b, 0x22, sizes[i]);
		pool_free(&pool, a);
		pool_free(&pool, b);
		assert_ptr_equal(pool_alloc(&pool), b);
		assert_ptr_equal(pool_alloc(&pool), a);
		assert_ptr_equal(pool_alloc(&pool), b + sizes[i]);
		pool_fini(&pool);
	}
}

static void freeing_null_does_nothing(void **state)
{
	struct pool pool;

	(void)state;
	pool_init(&pool, 8, NULL);
	pool_free(&pool, NULL);
	assert_null(pool.free_list);
	pool_fini(&pool);
	arena_unmap(NULL, 4096);
}

static void mappings_are_zero_and_lazy(void **state)
{
	const size_t len = (size_t)1 << 30;
	unsigned char resident;
	char *map = arena_map(len);

	(void)state;
	assert_non_null(map);
	assert_int_equal(map[len / 2], 0);
	map[len / 2] = 1;
	/* The page beside the one touched has cost nothing: no huge page was taken. */
	assert_return_code(mincore(map + len / 2 + 4096, 4096, &resident), 0);
	assert_int_equal(resident & 1, 0);
	arena_unmap(map, len);
}

static void exhaustion_is_null(void **state)
{
	struct pool pool;

	(void)state;
	assert_null(arena_map(SIZE_MAX / 2));
	pool_init(&pool, (size_t)1 << 62, NULL);
	assert_null(pool_alloc(&pool));
	pool_fini(&pool);
}

static void skip_with_sanitizers(void)
{
	if (!HARNESS_TSAN && !HARNESS_ASAN)
		return;
	print_message("skipped: sanitizers need mappings and address space of their own\n");
	skip();
}

/* No page more than what the process has mapped already; what was allowed before. */
static struct rlimit address_space_close(void)
{
	struct rlimit before, limit;
	unsigned long pages = 0;
	FILE *statm = fopen("/proc/self/statm", "r");

	assert_non_null(statm);
	assert_int_equal(fscanf(statm, "%lu", &pages), 1);
	fclose(statm);
	assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
	limit = before;
	limit.rlim_cur = pages * UMM_PAGE_SIZE;
	assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
	return before;
}

static size_t take_all(struct pool *pool)
{
	struct object *obj;
	size_t n = 0;

	while ((obj = pool_alloc(pool))) {
		atomic_fetch_add(&obj->owner, 1);
		n++;
	}
	return n;
}

static void objects_are_kept_back_for_who_cannot_fail(void **state)
{
	struct rlimit before;
	struct pool pool;
	size_t n, more;
	void *obj;

	(void)state;
	skip_with_sanitizers();
	pool_init(&pool, sizeof(struct object), NULL);
	pool_keep(&pool);
	assert_true(pool_reserve(&pool));
	obj = pool_alloc(&pool);
	assert_non_null(obj);
	before = address_space_close();
	n = take_all(&pool);
	pool_urgent_begin();
	assert_true(pool_is_urgent());
	more = take_all(&pool);
	pool_urgent_end();
	assert_false(pool_is_urgent());
	assert_false(pool_reserve(&pool));
	/* What comes back is kept first. */
	pool_free(&pool, obj);
	assert_null(pool_alloc(&pool));
	assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
	assert_true(pool_reserve(&pool));
	assert_non_null(pool_alloc(&pool));
	assert_in_range(more, (n + more) / 2, (n + more) / 2 + 1);
	pool_fini(&pool);
}

/* As many mappings as may be: every other page of so many. */
static size_t use_up_mappings(char *room, size_t npages)
{
	size_t i;

	for (i = 1; i < npages; i += 2)
		if (mprotect(room + i * UMM_PAGE_SIZE, UMM_PAGE_SIZE, PROT_READ))
			break;
	return i < npages ? i : 0;
}

static bool is_mapped(const char *page)
{
	return !msync((void *)(uintptr_t)page, UMM_PAGE_SIZE, MS_ASYNC);
}

static void what_cannot_be_unmapped_is_emptied_and_goes_later(void **state)
{
	const size_t npages = 200000, len = 4 * UMM_PAGE_SIZE;
	unsigned char there;
	char *room, *low;

	(void)state;
	skip_with_sanitizers();
	room = mmap(NULL, npages * UMM_PAGE_SIZE, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(room, MAP_FAILED);
	low = arena_map(3 * len);
	assert_non_null(low);
	memset(low, 1, 3 * len);
	if (!use_up_mappings(room, npages)) {
		munmap(room, npages * UMM_PAGE_SIZE);
		print_message("skipped: this kernel allows more mappings than that\n");
		skip();
	}
	/* One mapping would become two. */
	arena_unmap(low + len, len);
	assert_true(is_mapped(low + len));
	assert_int_equal(mincore(low + len, UMM_PAGE_SIZE, &there), 0);
	assert_false(there & 1);
	assert_int_equal(low[len - 1], 1);
	assert_int_equal(low[2 * len], 1);
	assert_int_equal(munmap(room, npages * UMM_PAGE_SIZE), 0);
	arena_unmap(low, len);
	assert_false(is_mapped(low));
	assert_false(is_mapped(low + len));
	assert_int_equal(low[2 * len], 1);
	arena_unmap(low + 2 * len, len);
}

static void *churn(void *arg)
{
	struct pool *pool = arg;
	struct object *mine[8] = { NULL };
	uintptr_t errors = 0;

	for (unsigned i = 0; i < NR_ROUNDS; i++) {
		struct object **slot = &mine[i % ARRAY_SIZE(mine)];

		if (*slot) {
			errors += atomic_fetch_sub(&(*slot)->owner, 1) != 1;
			pool_free(pool, *slot);
		}
		*slot = pool_alloc(pool);
		errors += !*slot || atomic_fetch_add(&(*slot)->owner, 1) != 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(mine); i++) {
		atomic_fetch_sub(&mine[i]->owner, 1);
		pool_free(pool, mine[i]);
	}
	return (void *)errors;
}

static void threads_never_share_an_object(void **state)
{
	pthread_t threads[NR_THREADS];
	struct pool pool;

	(void)state;
	pool_init(&pool, sizeof(struct object), NULL);
	for (size_t i = 0; i < NR_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, churn, &pool), 0);
	for (size_t i = 0; i < NR_THREADS; i++) {
		void *errors;

		assert_int_equal(pthread_join(threads[i], &errors), 0);
		assert_null(errors);
	}
	pool_fini(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_are_distinct_and_aligned),
		cmocka_unit_test(constructor_runs_once_per_object),
		cmocka_unit_test(freed_object_keeps_its_contents),
		cmocka_unit_test(odd_sizes_do_not_overlap),
		cmocka_unit_test(packed_objects_lie_side_by_side),
		cmocka_unit_test(freeing_null_does_nothing),
		cmocka_unit_test(mappings_are_zero_and_lazy),
		cmocka_unit_test(exhaustion_is_null),
		cmocka_unit_test(objects_are_kept_back_for_who_cannot_fail),
		cmocka_unit_test(what_cannot_be_unmapped_is_emptied_and_goes_later),
		cmocka_unit_test(threads_never_share_an_object),
	};

	return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
