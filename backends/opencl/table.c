/* SPDX-License-Identifier: MIT */
/*
 * Leaves of blocks that lie near each other are found without a search: the window is a stretch
 * of the address space, up to 16 times the size of the device's memory, whose leaves are numbered
 * as its blocks are. It grows as blocks come that fit, in both directions, and begins anew
 * elsewhere where it is empty and one does not fit. Other blocks have leaves from
 * max_window on.
 *
 * The directory is an open hash table with linear probing; a removal moves later
 * slots of the run up, so that there are no tombstones and the device's loop ends
 * at the first empty slot. It grows fourfold when half full. A leaf exists while
 * one of its entries is valid.
 *
 * All arrays are reserved at the size that they may reach at worst (every frame in
 * a block of its own) and cost what was touched; nothing is allocated later, for
 * entries are cleared where malloc() is not allowed.
 *
 * Invariants: every leaf with info.block != TABLE_NONE is in the directory once, those of the
 * window too, and has nvalid > 0 valid entries; a free leaf's entries are all 0; what the device's
 * copy lacks is marked dirty. The caller locks.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "table.h"

#define BLOCK_SHIFT	   21
#define PAGE_SHIFT	   12
#define MIN_DIRECTORY_BITS 10
#define MIN_WINDOW	   64
#define MIN_MAX_WINDOW	   512
#define WINDOW_FRAMES	   32 /* so many frames for each block that the window may have */

static uint32_t block_of(uintptr_t addr)
{
	return (uint32_t)(addr >> BLOCK_SHIFT);
}

static uint32_t index_of(uintptr_t addr)
{
	return (uint32_t)(addr >> PAGE_SHIFT) & (TABLE_LEAF_ENTRIES - 1);
}

static void *reserve(size_t len)
{
	void *addr = mmap(NULL, len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return addr == MAP_FAILED ? NULL : addr;
}

static void unreserve(void *addr, size_t len)
{
	if (addr)
		munmap(addr, len);
}

static unsigned max_directory_bits(const struct table *table)
{
	unsigned bits = MIN_DIRECTORY_BITS;

	while ((UINT64_C(1) << bits) < 2 * (uint64_t)table->max_live)
		bits++;
	return bits + 1; /* growth is in steps of two */
}

static size_t directory_bytes(const struct table *table)
{
	return sizeof(struct table_slot) << max_directory_bits(table);
}

static size_t max_chunks(const struct table *table)
{
	return ((size_t)1 << max_directory_bits(table)) / TABLE_CHUNK_SLOTS;
}

static size_t max_leaves(const struct table *table)
{
	return (size_t)table->max_window + table->max_live;
}

int table_init(struct table *table, uint32_t nframes)
{
	memset(table, 0, sizeof(*table));
	table->max_live = nframes;
	table->max_window = nframes / WINDOW_FRAMES;
	if (table->max_window < MIN_MAX_WINDOW)
		table->max_window = MIN_MAX_WINDOW;
	table->directory_bits = MIN_DIRECTORY_BITS;
	table->free = TABLE_NONE;
	table->directory = reserve(directory_bytes(table));
	table->leaves = reserve(max_leaves(table) * TABLE_LEAF_BYTES);
	table->info = reserve(max_leaves(table) * sizeof(*table->info));
	table->dirty = reserve(max_leaves(table));
	table->dirty_chunks = reserve(max_chunks(table));
	if (!table->directory || !table->leaves || !table->info || !table->dirty ||
	    !table->dirty_chunks) {
		table_fini(table);
		return -ENOMEM;
	}
	memset(table->dirty_chunks, 1, table_nchunks(table));
	return 0;
}

void table_fini(struct table *table)
{
	unreserve(table->directory, directory_bytes(table));
	unreserve(table->leaves, max_leaves(table) * TABLE_LEAF_BYTES);
	unreserve(table->info, max_leaves(table) * sizeof(*table->info));
	unreserve(table->dirty, max_leaves(table));
	unreserve(table->dirty_chunks, max_chunks(table));
	memset(table, 0, sizeof(*table));
}

/* As in umm_device.cl. */
static uint32_t home_slot(const struct table *table, uint32_t block)
{
	return block * UINT32_C(0x9e3779b1) >> (32 - table->directory_bits);
}

static uint32_t slot_mask(const struct table *table)
{
	return (UINT32_C(1) << table->directory_bits) - 1;
}

/* The block's slot, or the empty one where it would go. */
static struct table_slot *find_slot(const struct table *table, uint32_t block)
{
	uint32_t i = home_slot(table, block);

	while (table->directory[i].key && table->directory[i].key != block + 1)
		i = (i + 1) & slot_mask(table);
	return &table->directory[i];
}

static void set_slot(struct table *table, struct table_slot *slot, struct table_slot value)
{
	*slot = value;
	table->dirty_chunks[(slot - table->directory) / TABLE_CHUNK_SLOTS] = 1;
}

static void insert_slot(struct table *table, uint32_t block, uint32_t leaf)
{
	set_slot(table, find_slot(table, block),
		 (struct table_slot){ .key = block + 1, .leaf = leaf });
}

static void remove_slot(struct table *table, uint32_t block)
{
	uint32_t hole = (uint32_t)(find_slot(table, block) - table->directory);
	uint32_t mask = slot_mask(table);
	uint32_t i = hole;

	for (;;) {
		i = (i + 1) & mask;
		if (!table->directory[i].key)
			break;
		/* It may move into the hole unless its home lies behind that. */
		if (((i - home_slot(table, table->directory[i].key - 1)) & mask) <
		    ((i - hole) & mask))
			continue;
		set_slot(table, &table->directory[hole], table->directory[i]);
		hole = i;
	}
	set_slot(table, &table->directory[hole], (struct table_slot){ 0 });
}

/* Write it anew, for so many bits. */
static void fill_directory(struct table *table, unsigned bits)
{
	memset(table->directory, 0, sizeof(struct table_slot) << table->directory_bits);
	table->directory_bits = bits;
	memset(table->dirty_chunks, 1, table_nchunks(table));
	for (uint32_t leaf = 0; leaf < table->nleaves; leaf++)
		if (table->info[leaf].block != TABLE_NONE)
			insert_slot(table, table->info[leaf].block, leaf);
}

static uint32_t *leaf_entries(const struct table *table, uint32_t leaf)
{
	return &table->leaves[(size_t)leaf * TABLE_LEAF_ENTRIES];
}

/* Leaves below n count from now on; new ones are free. */
static void raise_leaves(struct table *table, uint32_t n)
{
	for (; table->nleaves < n; table->nleaves++)
		table->info[table->nleaves].block = TABLE_NONE;
}

/* Make the window begin at block first, which is not above where it begins, and have n blocks. */
static void window_move(struct table *table, uint32_t first, uint32_t n)
{
	uint32_t up = table->first - first, vacated = up < table->nwindow ? up : table->nwindow;

	raise_leaves(table, n);
	if (up && table->nwindow) {
		memmove(leaf_entries(table, up), table->leaves, table->nwindow * TABLE_LEAF_BYTES);
		memset(table->leaves, 0, vacated * TABLE_LEAF_BYTES);
		memmove(&table->info[up], table->info, table->nwindow * sizeof(*table->info));
		for (uint32_t leaf = 0; leaf < vacated; leaf++)
			table->info[leaf] = (struct table_leaf){ .block = TABLE_NONE };
	}
	memset(table->dirty, 1, n);
	table->first = first;
	table->nwindow = n;
	if (up)
		fill_directory(table, table->directory_bits);
}

/* Is the block in the window, or is there room for it as well? */
static bool window_reach(struct table *table, uint32_t block)
{
	uint32_t low, high, n = table->nwindow ? table->nwindow : MIN_WINDOW;

	if (block - table->first < table->nwindow)
		return true;
	low = block < table->first ? block : table->first;
	high = block < table->first ? table->first + table->nwindow : block + 1;
	if (high - low > table->max_window || !table->nwindow) {
		if (table->nwindow_live)
			return false;
		table->nwindow = 0;
		table->first = block & ~(n - 1);
		window_move(table, table->first, n);
		return true;
	}
	while (n < high - low)
		n *= 2;
	if (n > table->max_window)
		n = table->max_window;
	if (low == table->first)
		window_move(table, low, n);
	else
		window_move(table, high > n ? high - n : 0, n);
	return true;
}

static uint32_t outside_leaf(struct table *table)
{
	uint32_t leaf = table->free;

	if (leaf != TABLE_NONE) {
		table->free = table->info[leaf].nvalid;
		return leaf;
	}
	raise_leaves(table, table->max_window);
	raise_leaves(table, table->nleaves + 1);
	return table->nleaves - 1;
}

static uint32_t new_leaf(struct table *table, uint32_t block)
{
	uint32_t leaf;

	if (table->nlive == table->max_live)
		return TABLE_NONE;
	if (window_reach(table, block)) {
		leaf = block - table->first;
		table->nwindow_live++;
	} else {
		leaf = outside_leaf(table);
	}
	table->info[leaf] = (struct table_leaf){ .block = block };
	table->nlive++;
	if (2 * (uint64_t)table->nlive > UINT64_C(1) << table->directory_bits)
		fill_directory(table, table->directory_bits + 2); /* finds the new leaf too */
	else
		insert_slot(table, block, leaf);
	return leaf;
}

static void free_leaf(struct table *table, uint32_t leaf)
{
	remove_slot(table, table->info[leaf].block);
	table->info[leaf] = (struct table_leaf){ .block = TABLE_NONE };
	if (leaf < table->max_window) {
		table->nwindow_live--;
	} else {
		table->info[leaf].nvalid = table->free;
		table->free = leaf;
	}
	table->nlive--;
}

static void set_entry(struct table *table, uint32_t leaf, uint32_t index, uint32_t entry)
{
	uint32_t *at = &leaf_entries(table, leaf)[index];

	if (*at == entry)
		return;
	table->info[leaf].nvalid += !!entry - !!*at;
	*at = entry;
	table->dirty[leaf] = 1;
}

uint32_t table_get(const struct table *table, uintptr_t addr)
{
	const struct table_slot *slot = find_slot(table, block_of(addr));

	return slot->key ? leaf_entries(table, slot->leaf)[index_of(addr)] : 0;
}

void table_pages(const struct table *table, uintptr_t addr, uint64_t *bits)
{
	const struct table_slot *slot = find_slot(table, block_of(addr));
	const uint32_t *entries;

	if (!slot->key)
		return;
	entries = leaf_entries(table, slot->leaf);
	for (uint32_t i = 0; i < TABLE_LEAF_ENTRIES; i++)
		bits[i / 64] |= (uint64_t)(entries[i] != 0) << i % 64;
}

int table_set(struct table *table, uintptr_t addr, uint32_t entry)
{
	return table_set_pages(table, addr, &entry, 1);
}

int table_set_pages(struct table *table, uintptr_t addr, const uint32_t *entries, uint32_t count)
{
	struct table_slot *slot = find_slot(table, block_of(addr));
	uint32_t leaf, any = 0;

	for (uint32_t i = 0; i < count; i++)
		any |= entries[i];
	if (!slot->key && !any)
		return 0;
	leaf = slot->key ? slot->leaf : new_leaf(table, block_of(addr));
	if (leaf == TABLE_NONE)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++)
		set_entry(table, leaf, index_of(addr) + i, entries[i]);
	if (!table->info[leaf].nvalid)
		free_leaf(table, leaf);
	return 0;
}

/* The number that the leaf of a new block would get; TABLE_NONE: others would have to move. */
static uint32_t next_leaf(const struct table *table, uint32_t block)
{
	uint32_t above = block - table->first;

	if (above < table->nwindow)
		return above;
	if (!table->nwindow)
		return block & (MIN_WINDOW - 1);
	if (block > table->first && above < table->max_window)
		return above;
	if (!table->nwindow_live ||
	    (block < table->first && table->first + table->nwindow - block <= table->max_window))
		return TABLE_NONE;
	if (table->free != TABLE_NONE)
		return table->free;
	return table->nleaves > table->max_window ? table->nleaves : table->max_window;
}

bool table_has_room(const struct table *table, uintptr_t addr, uint32_t nleaves)
{
	const struct table_slot *slot = find_slot(table, block_of(addr));

	if (slot->key)
		return slot->leaf < nleaves;
	return table->nlive < table->max_live &&
	       2 * (uint64_t)(table->nlive + 1) <= UINT64_C(1) << table->directory_bits &&
	       next_leaf(table, block_of(addr)) < nleaves;
}

struct table_place table_place(const struct table *table, uintptr_t addr)
{
	const struct table_slot *slot = find_slot(table, block_of(addr));

	return (struct table_place){
		.slot = (uint32_t)(slot - table->directory),
		.entry = (size_t)slot->leaf * TABLE_LEAF_ENTRIES + index_of(addr),
	};
}

/* Entries of a leaf that a range covers; false: none. */
static bool overlap(uint32_t block, uintptr_t start, uintptr_t end, uint32_t *first, uint32_t *last)
{
	uintptr_t block_start = (uintptr_t)block << BLOCK_SHIFT;
	uintptr_t block_end = block_start + (UINT64_C(1) << BLOCK_SHIFT);

	if (end <= block_start || start >= block_end)
		return false;
	*first = start > block_start ? index_of(start) : 0;
	*last = end < block_end ? index_of(end - 1) : TABLE_LEAF_ENTRIES - 1;
	return true;
}

static bool leaf_any(const struct table *table, uint32_t leaf, uintptr_t start, uintptr_t end)
{
	const uint32_t *entries = leaf_entries(table, leaf);
	uint32_t first, last;

	if (table->info[leaf].block == TABLE_NONE ||
	    !overlap(table->info[leaf].block, start, end, &first, &last))
		return false;
	while (first <= last && !entries[first])
		first++;
	return first <= last;
}

static void leaf_clear(struct table *table, uint32_t leaf, uintptr_t start, uintptr_t end)
{
	uint32_t first, last;

	if (table->info[leaf].block == TABLE_NONE ||
	    !overlap(table->info[leaf].block, start, end, &first, &last))
		return;
	for (; first <= last; first++)
		set_entry(table, leaf, first, 0);
	if (!table->info[leaf].nvalid)
		free_leaf(table, leaf);
}

/* More blocks than leaves: then look at the leaves instead. */
static bool is_wide(const struct table *table, uintptr_t start, uintptr_t end)
{
	return (end - 1) >> BLOCK_SHIFT >= (start >> BLOCK_SHIFT) + table->nleaves;
}

bool table_any(const struct table *table, uintptr_t start, uintptr_t end)
{
	const struct table_slot *slot;

	if (start >= end)
		return false;
	if (is_wide(table, start, end)) {
		for (uint32_t leaf = 0; leaf < table->nleaves; leaf++)
			if (leaf_any(table, leaf, start, end))
				return true;
		return false;
	}
	for (uint32_t block = block_of(start); block <= block_of(end - 1); block++) {
		slot = find_slot(table, block);
		if (slot->key && leaf_any(table, slot->leaf, start, end))
			return true;
	}
	return false;
}

void table_clear(struct table *table, uintptr_t start, uintptr_t end)
{
	const struct table_slot *slot;

	if (start >= end)
		return;
	if (is_wide(table, start, end)) {
		for (uint32_t leaf = 0; leaf < table->nleaves; leaf++)
			leaf_clear(table, leaf, start, end);
		return;
	}
	for (uint32_t block = block_of(start); block <= block_of(end - 1); block++) {
		slot = find_slot(table, block);
		if (slot->key)
			leaf_clear(table, slot->leaf, start, end);
	}
}
