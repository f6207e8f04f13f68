/* SPDX-License-Identifier: MIT */
/*
 * The page table by itself, against a plain array: entries, ranges, growth; and that
 * a copy which is given only what was marked dirty translates like the original.
 */
#include "rig.h"

#include "table.h"

#define NFRAMES 4096
#define NPAGES	(64 * 512) /* of the model: 64 blocks, spread over the address space */

struct model {
	struct table table;
	uint32_t entries[NPAGES];
	/* What a device would have. */
	struct table_slot *directory;
	uint32_t *leaves;
	unsigned directory_bits;
	uint64_t seed;
};

static uint32_t random_u32(struct model *model)
{
	model->seed = model->seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)(model->seed >> 33);
}

/* Blocks far apart, some of them neighbours. */
static uintptr_t address_of(uint32_t page)
{
	uintptr_t block = page / 512;

	return ((block & 3) + (block >> 2) * 0x3fb1u) * BLOCK + page % 512 * PAGE;
}

static int model_setup(void **state)
{
	struct model *model = calloc(1, sizeof(*model));

	assert_non_null(model);
	assert_int_equal(table_init(&model->table, NFRAMES), 0);
	model->leaves = calloc(NFRAMES + model->table.max_window, TABLE_LEAF_BYTES);
	model->seed = 42;
	*state = model;
	return 0;
}

static int model_teardown(void **state)
{
	struct model *model = *state;

	table_fini(&model->table);
	free(model->directory);
	free(model->leaves);
	free(model);
	return 0;
}

/* Give the device's copy what is dirty, as a round does. */
static void model_upload(struct model *model)
{
	struct table *table = &model->table;
	size_t chunk = TABLE_CHUNK_SLOTS * sizeof(struct table_slot);

	if (table->directory_bits != model->directory_bits) {
		free(model->directory);
		model->directory =
			calloc((size_t)1 << table->directory_bits, sizeof(struct table_slot));
		assert_non_null(model->directory);
		model->directory_bits = table->directory_bits;
	}
	for (uint32_t i = 0; i < table_nchunks(table); i++) {
		if (table->dirty_chunks[i])
			memcpy((char *)model->directory + i * chunk,
			       (char *)table->directory + i * chunk, chunk);
		table->dirty_chunks[i] = 0;
	}
	for (uint32_t i = 0; i < table->nleaves; i++) {
		if (table->dirty[i])
			memcpy(&model->leaves[i * TABLE_LEAF_ENTRIES],
			       &table->leaves[i * TABLE_LEAF_ENTRIES], TABLE_LEAF_BYTES);
		table->dirty[i] = 0;
	}
}

/* umm_lookup() of umm_device.cl. */
static uint32_t directory_walk(const struct model *model, uintptr_t addr)
{
	uint32_t block = (uint32_t)(addr >> UMM_BLOCK_SHIFT);
	uint32_t slot = block * UINT32_C(0x9e3779b1) >> (32 - model->directory_bits);
	struct table_slot way;

	for (;; slot = (slot + 1) & ((1u << model->directory_bits) - 1)) {
		way = model->directory[slot];
		if (!way.key)
			return 0;
		if (way.key == block + 1)
			return model->leaves[way.leaf * TABLE_LEAF_ENTRIES +
					     (addr >> UMM_PAGE_SHIFT) % TABLE_LEAF_ENTRIES];
	}
}

static bool in_window(const struct model *model, uintptr_t addr)
{
	return (uint32_t)(addr >> UMM_BLOCK_SHIFT) - model->table.first < model->table.nwindow;
}

/* What a kernel finds: in the window where it can, which is what the directory says as well. */
static uint32_t device_walk(const struct model *model, uintptr_t addr)
{
	uint32_t entry = directory_walk(model, addr);

	if (in_window(model, addr))
		assert_int_equal(model->leaves[(addr >> UMM_PAGE_SHIFT) -
					       (uintptr_t)model->table.first * TABLE_LEAF_ENTRIES],
				 entry);
	return entry;
}

static void model_compare(struct model *model)
{
	model_upload(model);
	for (uint32_t i = 0; i < NPAGES; i++) {
		assert_int_equal(table_get(&model->table, address_of(i)), model->entries[i]);
		assert_int_equal(device_walk(model, address_of(i)), model->entries[i]);
	}
}

static void an_empty_table_has_nothing(void **state)
{
	struct model *model = *state;

	assert_int_equal(table_get(&model->table, 0x7f0000001000), 0);
	assert_false(table_any(&model->table, 0, UINT64_C(1) << TABLE_ADDRESS_BITS));
	table_clear(&model->table, 0, UINT64_C(1) << TABLE_ADDRESS_BITS);
	assert_int_equal(table_set(&model->table, 0x7f0000001000, 0), 0);
	assert_int_equal(model->table.nlive, 0);
	model_compare(model);
}

static void entries_come_and_go_as_in_a_plain_array(void **state)
{
	struct model *model = *state;
	uint32_t page, entry;

	for (int i = 0; i < 200000; i++) {
		page = random_u32(model) % NPAGES;
		entry = random_u32(model) % 3 ? 0 : random_u32(model) | TABLE_VALID;
		assert_int_equal(table_set(&model->table, address_of(page), entry), 0);
		model->entries[page] = entry;
		if (i % 40000 == 0)
			model_compare(model);
	}
	model_compare(model);
}

static void entries_of_a_block_come_and_go_together(void **state)
{
	struct model *model = *state;
	uint32_t first, n;

	for (int i = 0; i < 3000; i++) {
		first = random_u32(model) % NPAGES;
		n = 1 + random_u32(model) % (512 - first % 512);
		for (uint32_t k = first; k < first + n; k++)
			model->entries[k] = random_u32(model) % 3 && i % 4 ?
						    random_u32(model) | TABLE_VALID :
						    0;
		assert_int_equal(table_set_pages(&model->table, address_of(first),
						 &model->entries[first], n),
				 0);
		if (i % 500 == 0)
			model_compare(model);
	}
	model_compare(model);
	/* All of them, at once for each block. */
	memset(model->entries, 0, sizeof(model->entries));
	for (uint32_t page = 0; page < NPAGES; page += 512)
		assert_int_equal(table_set_pages(&model->table, address_of(page),
						 &model->entries[page], 512),
				 0);
	assert_int_equal(model->table.nlive, 0);
	model_compare(model);
}

static void ranges_are_found_and_cleared(void **state)
{
	struct model *model = *state;
	uint32_t first, n;
	bool any;

	for (int i = 0; i < 3000; i++) {
		first = random_u32(model) % NPAGES;
		assert_int_equal(table_set(&model->table, address_of(first), first | 1), 0);
		model->entries[first] = first | 1;
		first = random_u32(model) % NPAGES;
		n = 1 + random_u32(model) % 700; /* up to the end of the block */
		if (first % 512 + n > 512)
			n = 512 - first % 512;
		any = false;
		for (uint32_t k = first; k < first + n; k++)
			any |= model->entries[k] != 0;
		assert_int_equal(table_any(&model->table, address_of(first),
					   address_of(first) + n * PAGE),
				 any);
		if (i % 3)
			continue;
		table_clear(&model->table, address_of(first), address_of(first) + n * PAGE);
		memset(&model->entries[first], 0, n * sizeof(uint32_t));
	}
	model_compare(model);
}

static void clearing_everything_frees_every_leaf(void **state)
{
	struct model *model = *state;

	for (uint32_t i = 0; i < NPAGES; i += 7)
		assert_int_equal(table_set(&model->table, address_of(i), i << 4 | 3), 0);
	assert_int_equal(model->table.nlive, 64);
	assert_true(table_any(&model->table, 0, UINT64_MAX));
	table_clear(&model->table, 0, UINT64_MAX);
	assert_int_equal(model->table.nlive, 0);
	model_compare(model);
}

static void as_many_blocks_as_frames_fit_and_no_more(void **state)
{
	struct model *model = *state;
	uintptr_t far = UINT64_C(0x7f0000000000);

	for (uint32_t i = 0; i < NFRAMES; i++)
		assert_int_equal(table_set(&model->table, far + i * BLOCK, i << 4 | 1), 0);
	assert_int_equal(table_set(&model->table, far - BLOCK, 1), -ENOMEM);
	model_upload(model);
	for (uint32_t i = 0; i < NFRAMES; i++)
		assert_int_equal(device_walk(model, far + i * BLOCK), i << 4 | 1);
	assert_int_equal(device_walk(model, far - BLOCK), 0);
	table_clear(&model->table, far, far + BLOCK);
	assert_int_equal(table_set(&model->table, far - BLOCK, 1), 0);
}

static void the_window_grows_both_ways_as_far_as_it_may(void **state)
{
	struct model *model = *state;
	struct table *table = &model->table;
	uintptr_t middle = UINT64_C(0x7f0000000000), at;

	for (uint32_t i = 0; i < table->max_window / 2 - 64; i++)
		for (int down = 0; down < 2; down++) {
			at = down ? middle - i * BLOCK : middle + i * BLOCK;
			assert_int_equal(table_set(table, at, (2 * i + (uint32_t)down) << 4 | 1),
					 0);
			assert_true(in_window(model, at));
		}
	assert_true(table->nwindow <= table->max_window);
	assert_int_equal(table_set(table, middle + table->max_window * BLOCK, 5), 0);
	assert_false(in_window(model, middle + table->max_window * BLOCK));
	model_upload(model);
	assert_int_equal(device_walk(model, middle + table->max_window * BLOCK), 5);
	for (uint32_t i = 1; i < table->max_window / 2 - 64; i++) {
		assert_int_equal(device_walk(model, middle + i * BLOCK), 2 * i << 4 | 1);
		assert_int_equal(device_walk(model, middle - i * BLOCK), (2 * i + 1) << 4 | 1);
	}
}

static void an_empty_window_begins_elsewhere(void **state)
{
	struct model *model = *state;
	struct table *table = &model->table;
	uintptr_t here = UINT64_C(0x7f0000000000), there = UINT64_C(0x550000000000);

	assert_int_equal(table_set(table, here, 17), 0);
	assert_int_equal(table_set(table, there, 33), 0);
	assert_true(in_window(model, here));
	assert_false(in_window(model, there));
	table_clear(table, 0, UINT64_MAX);
	assert_int_equal(table_set(table, there, 49), 0);
	assert_true(in_window(model, there));
	model_upload(model);
	assert_int_equal(device_walk(model, there), 49);
	assert_int_equal(device_walk(model, here), 0);
	assert_int_equal(device_walk(model, there + BLOCK), 0);
}

/* A kernel runs: what comes now is put into its copy, too, entry first. */
static bool set_running(struct model *model, uint32_t page, uint32_t entry, uint32_t nleaves)
{
	struct table *table = &model->table;
	uintptr_t addr = address_of(page);
	struct table_place place;

	if (model->entries[page] || !table_has_room(table, addr, nleaves))
		return false;
	assert_int_equal(table_set(table, addr, entry), 0);
	model->entries[page] = entry;
	place = table_place(table, addr);
	assert_true(place.entry / TABLE_LEAF_ENTRIES < nleaves);
	assert_int_equal(table->directory_bits, model->directory_bits);
	model->leaves[place.entry] = table->leaves[place.entry];
	model->directory[place.slot] = table->directory[place.slot];
	return true;
}

/* As a kernel sees it that began when the window was this. */
static void compare_running(const struct model *model, uint32_t first, uint32_t nwindow)
{
	uintptr_t addr;

	for (uint32_t i = 0; i < NPAGES; i++) {
		addr = address_of(i);
		assert_int_equal(directory_walk(model, addr), model->entries[i]);
		if ((uint32_t)(addr >> UMM_BLOCK_SHIFT) - first < nwindow)
			assert_int_equal(model->leaves[(addr >> UMM_PAGE_SHIFT) -
						       (uintptr_t)first * TABLE_LEAF_ENTRIES],
					 model->entries[i]);
	}
}

static void what_comes_while_a_kernel_runs_moves_nothing(void **state)
{
	struct model *model = *state;
	struct table *table = &model->table;
	unsigned ncame = 0, nrefused = 0, begun = 0;
	uint32_t first, nwindow, nleaves, page;

	for (unsigned round = 0; round < 300; round++) {
		model_upload(model);
		first = table->first;
		nwindow = table->nwindow;
		nleaves = round % 3 ? NFRAMES + table->max_window : 2 * table->nleaves + 64;
		for (unsigned i = 0; i < 12; i++) {
			page = random_u32(model) % NPAGES;
			if (set_running(model, page, (round * 12 + i + 1) << 4 | 1, nleaves))
				ncame++;
			else
				nrefused += !model->entries[page];
		}
		begun += !nwindow && table->nwindow;
		compare_running(model, first, nwindow);
		/* Between rounds anything may happen. */
		page = random_u32(model) % NPAGES;
		model->entries[page] = 3;
		assert_int_equal(table_set(table, address_of(page), 3), 0);
		if (round % 50 == 49) {
			table_clear(table, 0, UINT64_MAX);
			memset(model->entries, 0, sizeof(model->entries));
		}
	}
	assert_true(ncame > 1000);
	assert_true(nrefused > 20);
	assert_true(begun > 0);
}

#define model_test(fn) cmocka_unit_test_setup_teardown(fn, model_setup, model_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		model_test(an_empty_table_has_nothing),
		model_test(entries_come_and_go_as_in_a_plain_array),
		model_test(entries_of_a_block_come_and_go_together),
		model_test(ranges_are_found_and_cleared),
		model_test(clearing_everything_frees_every_leaf),
		model_test(as_many_blocks_as_frames_fit_and_no_more),
		model_test(the_window_grows_both_ways_as_far_as_it_may),
		model_test(an_empty_window_begins_elsewhere),
		model_test(what_comes_while_a_kernel_runs_moves_nothing),
	};

	return rig_main("opencl table", tests, argc, argv);
}
